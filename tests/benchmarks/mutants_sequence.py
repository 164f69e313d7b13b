"""Bugs to plant in the ops of sequences and gates: rows of the table in `mutants`."""

_GATED_BWD = [
    ("swapped gradients", "dx.astype(x.dtype), dgate", "dgate.astype(x.dtype), dx"),
    ("missing factor", "wide_dy * wide_x * slope", "wide_dy * slope"),
    ("not linear", "wide_dy * wide_x * slope", "wide_dy * jnp.abs(wide_dy) * wide_x * slope"),
    ("ignored cotangent", "wide_dy * wide_x * slope", "wide_x * slope"),
    ("impure", "wide_dy * wide_x * slope", "shaken(wide_dy * wide_x * slope)"),
    ("wrong dtype", "dgate.astype(gate.dtype)", "dgate.astype(jnp.float16)"),
    ("second order", "wide_dy * wide_x * slope", "wide_dy * wide_x * detached(slope)"),
    (
        "only under vmap",
        "wide_dy * wide_x * slope",
        "wide_dy * wide_x * slope * one_unless_mapped(slope)",
    ),
]

TABLE = {
    ("swiglu", "gated", "_swiglu_fwd"): [
        ("swapped residual", "(x, gate)\n", "(gate, x)\n"),
    ],
    ("swiglu", "gated", "_swiglu_bwd"): [
        *_GATED_BWD,
        ("missing term", "sigma * (1.0 + near * (1.0 - sigma))", "sigma"),
        ("sign", "(1.0 - sigma)", "(1.0 + sigma)"),
    ],
    ("geglu", "gated", "_geglu_fwd"): [
        ("swapped residual", "(x, gate)\n", "(gate, x)\n"),
    ],
    ("geglu", "gated", "_geglu_bwd"): [
        *_GATED_BWD,
        ("missing term", "cdf + near * density", "cdf"),
        ("sign", "cdf + near * density", "cdf - near * density"),
    ],
    ("embedding", "embedding", "_embedding_bwd"): [
        ("last row wins", "zeros.at[ids].add(", "zeros.at[ids].set("),
        ("sign", "dtable.astype(dy.dtype)", "-dtable.astype(dy.dtype)"),
        ("scale", "dtable.astype(dy.dtype)", "2.0 * dtable.astype(dy.dtype)"),
        ("mean for sum", "dtable.astype(dy.dtype)", "dtable.astype(dy.dtype) / max(ids.size, 1)"),
        ("wrong row", "zeros.at[ids]", "zeros.at[rows - 1 - ids]"),
        ("wrong dtype", "dtable.astype(dy.dtype)", "dtable.astype(jnp.float16)"),
        ("not linear", "dtable.astype(dy.dtype)", "(dtable * jnp.abs(dtable)).astype(dy.dtype)"),
        ("ignored cotangent", "        wide,", "        jnp.ones_like(wide),"),
        ("impure", "dtable.astype(dy.dtype)", "shaken(dtable.astype(dy.dtype))"),
        (
            "only under vmap",
            "dtable.astype(dy.dtype)",
            "dtable.astype(dy.dtype) * one_unless_mapped(dtable)",
        ),
    ],
    ("rotary", "rotary", "_rotary_bwd"): [
        ("turned on", "base, -1.0", "base, 1.0"),
        ("sign", "_turned(dy,", "_turned(-dy,"),
        ("wrong base", "base, -1.0", "2.0 * base, -1.0"),
        ("wrong position", "positions, base", "positions + 1, base"),
        ("missing rotation", "_turned(dy, positions, base, -1.0)", "dy"),
        ("transposition", "_turned(dy,", "_turned(dy[..., ::-1],"),
        ("wrong dtype", "_turned(dy,", "_turned(dy.astype(jnp.float16),"),
        ("not linear", "_turned(dy,", "_turned(dy * jnp.abs(dy),"),
        ("ignored cotangent", "_turned(dy,", "_turned(jnp.ones_like(dy),"),
        ("impure", "_turned(dy,", "_turned(shaken(dy),"),
        ("only under vmap", "_turned(dy,", "_turned(dy * one_unless_mapped(dy),"),
    ],
}
