"""Download data sets from their publishers into the layout that this project reads."""
