"""The commands of docs/gallery.md, the runs that they take, and what their pictures show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gallery_pictures import crop, mark, side_by_side

# What is trained where no run is given.
RUNS: Mapping[str, Sequence[str]] = {
    "art": ["experiment=art_collection", "dataset.root={folder}", "dataset.size=64"],
    "scans": ["experiment=denoise_scans", "dataset.root={folder}"],
    "ae2": ["model=fc_deep", "model.activation=gelu", "optimizer.lr=2e-3", "trainer.epochs=60", "scheduler=cosine"],
    "vae2": ["model=fc_vae", "model.hidden=[512,128]", "model.code_size=2", "loss=bce", "trainer.epochs=60"],
    "vae": ["model=fc_vae", "loss=bce", "trainer.epochs=40"],
    "ksparse": [
        *("model=fc", "model.code_size=100", "sparsity=topk", "sparsity.k=8"),
        *("optimizer.lr=3e-3", "trainer.epochs=40"),
    ],
    "sick": ["model=fc_deep", "optimizer.lr=0.3", "trainer.epochs=10"],
}


@dataclass(frozen=True)
class Shown:
    """One command: ``words`` with {run} and {out} to be filled in, and which of its pictures are kept.

    ``prints``: whether what it printed is worth keeping; ``look``: what a person saw in the pictures, in a sentence;
    ``before`` and ``after`` make, in the folder that ``{out}`` is, what the command is given and a picture of its work.
    """

    name: str
    words: str
    pictures: Sequence[str] = ()
    prints: bool = False
    look: str = ""
    before: Callable[[Path, Mapping[str, str]], None] | None = None
    after: Callable[[Path], None] | None = None


PARTS: Mapping[str, Sequence[Shown]] = {
    "Fingerprints and search": [
        Shown("embed", "embed {art} {folder} -o {out}/fingerprints.npz --compare", prints=True),
        Shown(
            "search",
            "search {art} {out}/fingerprints.npz {queries} -k 8 --sheet {out}/search.png",
            ["search.png"],
            look=(
                "The query is on the left; the numbers are cosine distances. A playing card finds the court "
                "cards of other designs. The signal flag also finds Canadian flags and a fire engine: they "
                "share color and layout, not meaning."
            ),
        ),
        Shown(
            "cropped",
            "search {art} {out}/fingerprints.npz {out}/part.png --cropped -k 5 --sheet {out}/cropped.png",
            ["cropped.png"],
            prints=True,
            before=crop,
            look="The part on the left was cut from the first picture found.",
        ),
        Shown(
            "duplicates",
            "search {art} {out}/fingerprints.npz --duplicates auto --sheet {out}/duplicates.png",
            ["duplicates.png"],
            look=(
                "Groups of near-duplicates, such as one icon in several themes. Drawings that are almost "
                "white (thin circles and rays) form large groups, because their codes hardly differ."
            ),
        ),
        Shown(
            "organise",
            "organise {art} {out}/fingerprints.npz -o {out}/clusters --clusters 12",
            ["clusters/overview.png"],
            prints=True,
            look=(
                "The clusters sort by layout and color: circles, playing cards, flags, gray icons. The first "
                "one is a mixture."
            ),
        ),
    ],
    "Clean scans": [
        Shown(
            "denoise",
            "denoise {scans} {out}/dirty {out}/cleaned --clean {out}/clean",
            ["cleaned.png"],
            prints=True,
            before=mark,
            after=side_by_side,
            look="Dirty pictures above, cleaned ones below. Faint traces of the longest scratches remain.",
        )
    ],
    "New images": [
        Shown(
            "samples",
            "generate samples {vae} -o {out}/vae",
            ["vae/samples.png"],
            look=("Decoded draws from the prior: most are recognizable clothes, blurred; some lie between two kinds."),
        ),
        Shown(
            "mixture",
            "generate samples {art} -o {out}/art",
            ["art/samples.png"],
            look=(
                "Decoded draws from the mixture: the colors and outlines of drawings, but hardly a recognizable object."
            ),
        ),
        Shown(
            "interpolate",
            "generate interpolate {art} 3 12 -o {out}/art",
            ["art/interpolation.png"],
            look="From one drawing to another. Codes of 32 numbers keep the outline, so all steps are blurred.",
        ),
        Shown(
            "traverse",
            "generate traverse {vae} -o {out}/vae",
            ["vae/traversal.png"],
            look="One code unit per row, the most used first. A unit changes several properties at once.",
        ),
        Shown(
            "arithmetic",
            "generate arithmetic {vae} 7 - 3 + 12 -o {out}/vae",
            ["vae/arithmetic.png"],
            look=(
                "A pullover minus trousers plus a sneaker. The sum is a blurred shape: codes of this model do "
                "not add up to meaning."
            ),
        ),
        Shown(
            "compare",
            "generate compare {ae2} {vae2} -o {out}",
            ["compare.png"],
            look=(
                "Far from all codes the autoencoder (above) decodes patterns that are not clothes; the VAE "
                "(below) still decodes clothes."
            ),
        ),
    ],
    "Maps": [
        Shown(
            "map",
            "map {vae} -o {out}/vae --method pca,tsne",
            ["vae/map_tsne.png", "vae/units.png"],
            look="Shoes, bags, trousers and tops are separate regions. 19 of the 20 code units are active.",
        ),
        Shown(
            "manifold",
            "map {vae2} -o {out}/vae2",
            ["vae2/map_codes.png", "vae2/manifold.png"],
            look=(
                "With codes of two numbers the map is the code itself. The decoded grid goes from shoes on "
                "the left to tops on the right."
            ),
        ),
        Shown(
            "dictionary",
            "map {ksparse} -o {out}/ksparse",
            ["ksparse/dictionary.png"],
            look=(
                "Each row shows what a unit adds to the output, and the test images that excite it most: "
                "bags, boots, trousers."
            ),
        ),
        Shown(
            "thumbnails",
            "map {art} -o {out}/art --method tsne --thumbnails --drawn 0",
            ["art/map_tsne.png"],
            look="Drawings near each other share color and layout.",
        ),
    ],
    "Doctor": [Shown("doctor", "doctor {sick} {vae} {ksparse} {art}", prints=True)],
    "Export": [Shown("export", "export {vae} {out}/exported --format torch safetensors", prints=True)],
}
