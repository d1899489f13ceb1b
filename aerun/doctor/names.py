"""What verdicts are called, and which of them follow from many causes."""

DIVERGED, RANGE, LOGITS = "diverged", "targets outside the output's range", "sigmoid before a loss of logits"
AVERAGED, SHUFFLED, BROADCAST = "targets averaged", "targets shuffled", "loss ignores which output is whose"
SPARSITY, POSTERIOR, PARTIAL = "sparsity too hard", "posterior collapse", "latent dimensions unused"
TOO_HIGH, TOO_LOW = "learning rate too high", "learning rate too low"
DECAY, HELD = "weight decay too strong", "layers held as they began"
SAME, IGNORED, NOTHING = "outputs the same for every input", "codes ignored by the decoder", "nothing learned"
DEAD, CONSTANT, SATURATED = "dead units", "signal lost", "saturated units"
SATURATED_OUTPUT, OFF_SCALE = "outputs saturated", "reconstructions off scale"
FEW, OVER = "too few epochs", "over-fitting"
NARROW, WIDE, LINEAR = "bottleneck too narrow", "bottleneck too wide", "worse than PCA"

COLLAPSES = frozenset({SAME, IGNORED, NOTHING, DEAD, CONSTANT, SATURATED, SATURATED_OUTPUT, OFF_SCALE})
WORSE = frozenset({NARROW, LINEAR})  # than it should be, whatever the reason
POOR = WORSE | {FEW, TOO_LOW, OVER}
