"""A second, deliberately naive STM, one object at a time. Tests compare the fast implementation with it.

It works on a plain state dict: to get gradients, pass tensors that require them. The dtype is that of these
tensors. A memory is a dict from object 1..O to its `(keys (N, Ck), values (N, Cv))`.
Letters: T frames, O objects, K mask channels with background first, H, W pixels, N memory positions.
"""

import torch
import torch.nn.functional as F

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


class Oracle:
    """The network and its loops. `context`: 'background' or 'others'; `pad_to`: 1 (STM-Cycle) or 16 (STM)."""

    def __init__(self, state_dict, context="background", pad_to=1):
        self.weights, self.context, self.pad_to = state_dict, context, pad_to

    # ---- the network -------------------------------------------------------------------------------------

    def conv(self, x, name, stride=1):
        weight = self.weights[name + ".weight"]
        return F.conv2d(x, weight, self.weights.get(name + ".bias"), stride, padding=weight.shape[-1] // 2)

    def norm(self, x, name):
        names = (f"{name}.{leaf}" for leaf in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *(self.weights[n] for n in names), training=False)

    def resnet_block(self, x, name, stride):
        deep = name + ".conv3.weight" in self.weights  # a bottleneck, which strides in its 3x3 convolution
        y = F.relu(self.norm(self.conv(x, name + ".conv1", 1 if deep else stride), name + ".bn1"))
        y = self.norm(self.conv(y, name + ".conv2", stride if deep else 1), name + ".bn2")
        if deep:
            y = self.norm(self.conv(F.relu(y), name + ".conv3"), name + ".bn3")
        if name + ".downsample.0.weight" in self.weights:
            x = self.norm(self.conv(x, name + ".downsample.0", stride), name + ".downsample.1")
        return F.relu(x + y)

    def resnet(self, stem, name):
        """Return the maps at strides 4, 8 and 16. `stem`: the sum of the first convolutions."""
        x = F.max_pool2d(F.relu(self.norm(stem, name + ".bn1")), kernel_size=3, stride=2, padding=1)
        maps = []
        for stage, stride in (("res2", 1), ("res3", 2), ("res4", 2)):
            count = 0
            while f"{name}.{stage}.{count}.conv1.weight" in self.weights:
                x = self.resnet_block(x, f"{name}.{stage}.{count}", stride if count == 0 else 1)
                count += 1
            maps.append(x)
        return maps

    def padded(self, x, border):
        """Pad `x` (C, H, W) evenly to a multiple of `pad_to`. `border`: (C, 1, 1)."""
        height, width = x.shape[1:]
        more_h, more_w = -height % self.pad_to, -width % self.pad_to
        out = border.repeat(1, height + more_h, width + more_w)
        out[:, more_h // 2 : more_h // 2 + height, more_w // 2 : more_w // 2 + width] = x
        return out

    def cropped(self, x, height, width):
        top, left = (-height % self.pad_to) // 2, (-width % self.pad_to) // 2
        return x[..., top : top + height, left : left + width]

    def memorize(self, frame, mask, objects):
        """Return the memory of one frame. frame (3, H, W); mask (K, H, W); objects: those to remember."""
        frame = self.padded(frame, -MEAN.to(frame) / STD.to(frame))[None]
        mask = self.padded(mask, mask.new_zeros(len(mask), 1, 1))
        memory = {}
        for o in objects:
            if self.context == "background":
                extra, name = torch.clamp(1 - mask[o], 0, 1), "conv1_bg"
            else:
                others = [mask[i] for i in range(1, len(mask)) if i != o]
                extra, name = torch.clamp(sum(others, torch.zeros_like(mask[o])), 0, 1), "conv1_o"
            stem = (
                self.conv(frame, "Encoder_M.conv1", 2)
                + self.conv(mask[o][None, None], "Encoder_M.conv1_m", 2)
                + self.conv(extra[None, None], "Encoder_M." + name, 2)
            )
            deepest = self.resnet(stem, "Encoder_M")[-1]
            keys, values = self.conv(deepest, "KV_M_r4.Key"), self.conv(deepest, "KV_M_r4.Value")
            memory[o] = keys[0].flatten(1).T, values[0].flatten(1).T
        return memory

    def read(self, keys, values, query):
        """Return the readout (Cv, h, w) of keys (N, Ck), values (N, Cv) and query (Ck, h, w)."""
        attention = torch.softmax(keys @ query.flatten(1) / keys.shape[1] ** 0.5, dim=0)
        return (values.T @ attention).view(-1, *query.shape[1:])

    def residual(self, x, name):
        return x + self.conv(F.relu(self.conv(F.relu(x), name + ".conv1")), name + ".conv2")

    def refine(self, skip, below, name):
        skip = self.residual(self.conv(skip, name + ".convFS"), name + ".ResFS")
        below = F.interpolate(below, size=skip.shape[-2:], mode="bilinear", align_corners=False)
        return self.residual(skip + below, name + ".ResMM")

    def object_probs(self, frame, memory):
        """Return (O, H, W): each object's probability as if it were alone. frame (3, H, W)."""
        height, width = frame.shape[1:]
        frame = self.padded(frame, -MEAN.to(frame) / STD.to(frame))[None]
        r2, r3, r4 = self.resnet(self.conv(frame, "Encoder_Q.conv1", 2), "Encoder_Q")
        query, own_value = self.conv(r4, "KV_Q_r4.Key"), self.conv(r4, "KV_Q_r4.Value")
        probs = []
        for keys, values in memory.values():
            x = torch.cat([self.read(keys, values, query[0])[None], own_value], dim=1)
            x = self.residual(self.conv(x, "Decoder.convFM"), "Decoder.ResMM")
            x = self.refine(r2, self.refine(r3, x, "Decoder.RF3"), "Decoder.RF2")
            x = self.conv(F.relu(x), "Decoder.pred2")
            x = F.interpolate(x, size=frame.shape[-2:], mode="bilinear", align_corners=False)
            probs.append(self.cropped(torch.softmax(x, dim=1)[0, 1], height, width))
        return torch.stack(probs)

    def segment(self, frame, memory, num_channels):
        """Return logits (1, K, H, W) after soft aggregation."""
        probs = self.object_probs(frame, memory)
        nobody = torch.ones_like(probs[0])
        for p in probs:
            nobody = nobody * (1 - p)
        evidence = [nobody] + [torch.zeros_like(nobody)] * (num_channels - 1)
        for o, p in zip(memory, probs):
            evidence[o] = p
        evidence = torch.stack(evidence).clamp(1e-7, 1 - 1e-7)
        return torch.log(evidence / (1 - evidence))[None]

    # ---- training ----------------------------------------------------------------------------------------

    def train_clip(self, frames, masks, num_objects, loss="both", mode="recurrent", iou_threshold=0.65):
        """Return the sums of forward and cycle loss, the total of this batch of one, and probabilities.

        frames (T, 3, H, W); masks (T, K, H, W) one-hot; the probabilities are (T - 1, K, H, W).
        """
        length, num_channels, objects = len(frames), masks.shape[1], range(1, num_objects + 1)
        single = [self.memorize(frames[0], masks[0], objects)]
        memory, forward, cycle, probs = single[0], torch.zeros(()), torch.zeros(()), []
        for t in range(1, length):
            logits = self.segment(frames[t], memory, num_channels)
            forward = forward + frame_loss(loss, logits, masks[t], present(masks[0], num_objects))
            soft = torch.softmax(logits, dim=1)[0]
            probs.append(soft)
            mean_iou = 1 - iou_loss(logits, masks[t], present(masks[0], num_objects))
            trusted = mode == "recurrent" or (mode == "threshold" and mean_iou >= iou_threshold)
            single.append(self.memorize(frames[t], soft if trusted else masks[t], objects))
            memory = join(memory, single[t])
        for t in reversed(range(1, length)):
            if masks[t, num_objects].any():
                logits = self.segment(frames[0], single[t], num_channels)
                cycle = cycle + frame_loss(loss, logits, masks[0], present(masks[t], num_objects))
        return forward, cycle, (forward + cycle) / (length - 1), torch.stack(probs)

    # ---- testing -----------------------------------------------------------------------------------------

    def test_video(self, frames, given, save_freq=5, loop=0, rate=150.0, momentum=0.0, keep_given=False):
        """Return probabilities (T - 1, K, H, W), each before its own correction, and memorized masks (T, K,
        H, W).

        frames (T, 3, H, W); given {t: (one-hot masks (K, H, W), objects first seen at t)}, t = 0 among them;
        loop 0 corrects nothing; keep_given: frames with a given mask stay in the memory, too.
        """
        used, objects = [given[0][0]], given[0][1]
        reference, kept, out = (0, used[0]), {}, []
        for t in range(1, len(frames)):
            with torch.no_grad():
                newest = self.memorize(frames[t - 1], used[t - 1], objects)
                memory = join(kept, newest)
                probs = torch.softmax(self.segment(frames[t], memory, len(used[0])), dim=1)[0]
            out.append(probs)
            if (t - 1) % save_freq == 0 or (keep_given and t - 1 in given):
                kept = memory
            if t in given:
                objects = [*objects, *given[t][1]]
                used.append(add_given(probs, given[t][0]))
                reference = t, F.one_hot(used[t].argmax(0), len(probs)).movedim(-1, 0).to(probs)
            elif loop and t % save_freq == 0:
                where, truth = reference
                used.append(
                    self.correct(frames[t], probs, frames[where], truth, objects, loop, rate, momentum)
                )
            else:
                used.append(probs)
        return torch.stack(out), torch.stack(used)

    def correct(self, frame, mask, reference, truth, objects, loop, rate, momentum=0.0):
        """Descend on the mask (K, H, W) of `frame` so that it predicts the masks `truth` of `reference`."""
        step = torch.zeros_like(mask)
        for _ in range(loop):
            mask = mask.detach().requires_grad_()
            logits = self.segment(reference, self.memorize(frame, mask, objects), len(mask))
            loss = frame_loss("both", logits, truth, [0, *objects])
            step = momentum * step + torch.autograd.grad(loss, mask)[0]
            mask = mask - rate * step
        return mask.detach()


def add_given(probs, given):
    """Put a given mask on top of predicted ones, both (K, H, W).

    A given object is exactly its pixels. The other objects keep the rest of theirs. What remains is
    background.
    """
    mixed, taken = torch.zeros_like(probs), given[1:].sum(0) > 0
    for o in range(1, len(probs)):
        mixed[o] = given[o] if given[o].any() else torch.where(taken, 0, probs[o])
    mixed[0] = torch.where(taken, 0, 1 - mixed[1:].sum(0))
    return mixed


def join(memory, more):
    """Concatenate two memories along N, object by object. An object that only `more` has starts there."""
    joined = dict(memory)
    for o, (keys, values) in more.items():
        if o in memory:
            keys, values = torch.cat([memory[o][0], keys]), torch.cat([memory[o][1], values])
        joined[o] = keys, values
    return joined


def present(masks, num_objects):
    """List the channels 0..O that have a pixel in `masks` (K, H, W)."""
    return [k for k in range(num_objects + 1) if masks[k].any()]


def ce_loss(logits, target, counted):
    """Cross entropy of the worst 40 % of the pixels. logits (1, K, H, W); target (K, H, W)."""
    log_probs = torch.log_softmax(logits[0], dim=0)
    pixels = 0 * log_probs[0]
    for k in counted:
        pixels = pixels - target[k] * log_probs[k]
    worst_first = pixels.flatten().sort(descending=True).values
    return worst_first[: 2 * pixels.numel() // 5].mean()


def iou_loss(logits, target, counted):
    """Mean over the counted objects of 1 - soft intersection / soft union; 0 if there is none."""
    probs = torch.softmax(logits[0], dim=0)
    losses = [
        1 - torch.minimum(probs[k], target[k]).sum() / torch.maximum(probs[k], target[k]).sum()
        for k in counted
        if k > 0
    ]
    return sum(losses) / len(losses) if losses else 0 * logits.sum()


def frame_loss(kind, logits, target, counted):
    ce = ce_loss(logits, target, counted) if kind in ("ce", "both") else 0
    iou = iou_loss(logits, target, counted) if kind in ("iou", "both") else 0
    return ce + iou
