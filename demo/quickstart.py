"""The main job from nothing, by the project's own commands: draw clips, train on them, test, score, show."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CFG = "demo/quickstart.yaml"
MODEL = "runs/quickstart/threshold.pth.tar"
DATA = "runs/quickstart/DAVIS17"
CLIP = "val-0000"


def main() -> None:
    """Run each command from the project's folder, showing it as one would type it."""
    run("-m", "dataset.procedural", "--out", "runs/quickstart", "--train", "96", "--val", "6", "--size", "160x280")
    run("train.py", "--cfg", CFG, "resume", "auto")
    run("test.py", "--cfg", CFG, "initial", MODEL)
    run(
        "demo/demo.py", "output_dir", "runs/quickstart/demo",
        "video_path", f"{DATA}/JPEGImages/480p/{CLIP}", "mask_path", f"{DATA}/Annotations/480p/{CLIP}/00000.png",
    )


def run(*arguments: str) -> None:
    """Run Python with these arguments; end as it ends where it fails."""
    print("\n$ python3 " + " ".join(f"'{a}'" if " " in a else a for a in arguments), flush=True)
    code = subprocess.run([sys.executable, *arguments], cwd=HERE.parent, check=False).returncode
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
