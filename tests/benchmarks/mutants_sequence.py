"""Bugs to plant in the ops of sequences: rows of the table in `mutants`."""

TABLE = {
    ("embedding", "embedding", "_embedding_bwd"): [
        ("last row wins", "zeros.at[ids].add(", "zeros.at[ids].set("),
        ("sign", "dtable.astype(dy.dtype)", "-dtable.astype(dy.dtype)"),
        ("scale", "dtable.astype(dy.dtype)", "2.0 * dtable.astype(dy.dtype)"),
        ("mean for sum", "dtable.astype(dy.dtype)", "dtable.astype(dy.dtype) / max(ids.size, 1)"),
        ("wrong row", "zeros.at[ids]", "zeros.at[rows - 1 - ids]"),
        ("second order", "wide = dy.", "wide = detached(dy)."),
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
        ("turned on", "-sines", "sines"),
        ("sign", "_turned(dy,", "_turned(-dy,"),
        ("swapped residual", "cosines, sines = res", "sines, cosines = res"),
        ("missing term", "-sines", "0.0 * sines"),
        ("missing rotation", "_turned(dy, cosines, -sines)", "dy"),
        ("transposition", "_turned(dy,", "_turned(dy[..., ::-1],"),
        ("wrong dtype", "_turned(dy,", "_turned(dy.astype(jnp.float16),"),
        ("not linear", "_turned(dy,", "_turned(dy * jnp.abs(dy),"),
        ("ignored cotangent", "_turned(dy,", "_turned(jnp.ones_like(dy),"),
        ("second order", "_turned(dy,", "_turned(detached(dy),"),
        ("impure", "_turned(dy,", "_turned(shaken(dy),"),
        ("only under vmap", "_turned(dy,", "_turned(dy * one_unless_mapped(dy),"),
    ],
}
