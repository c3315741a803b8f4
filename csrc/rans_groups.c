/* rANS over whole groups of lanes in portable C. */
#include "rans.h"

enum { MOST_LANES = 1 << RANS_LANES_LOG2 };

/* What a symbol does to a state. */
typedef struct step {
    uint64_t reciprocal;
    uint32_t most, complement, first, unused; /* most: the largest state that need not shrink */
} step;

static void make_steps(const rans_encode_table *e, step steps[256])
{
    for (unsigned s = 0; s < 256; s++) {
        uint32_t f = e->slots[s] >> PROB_BITS;
        steps[s] = (step){e->reciprocal[s], (f << 20) - 1, PROB_SUM - f, e->slots[s] & (PROB_SUM - 1), 0};
    }
}

/* Where nearly all symbols are the same one, a branch knows that no word is stored and nothing waits for that;
 * elsewhere it would be as good as random, and each word is written, to be kept only when the state must shrink: a sign
 * spread over a mask takes fewer steps than a comparison's result. */
INLINE uint8_t *encode_one(const step *p, uint32_t *x, bool words_are_rare, uint8_t *at)
{
    uint32_t y = *x;
    uint64_t emit = ((uint64_t)p->most - y) >> 32; /* all ones or zero */
    if (!words_are_rare || emit) {
        store_u16(at - 2, (uint16_t)y);
        at -= emit & 2;
        y >>= emit & 16;
    }
    *x = y + (uint32_t)(y * p->reciprocal >> 44) * p->complement + p->first;
    return at;
}

INLINE uint8_t *encode_groups(const step *steps, const uint8_t *symbols, size_t groups, uint32_t *state, size_t lanes,
                              bool words_are_rare, uint8_t *at)
{
    const size_t several = lanes < 4 ? 1 : 4; /* fewer steps of the loop */
    uint32_t x[MOST_LANES];
    memcpy(x, state, lanes * sizeof *x);
    for (size_t g = groups; g-- > 0;)
        for (size_t j = lanes; j > 0; j -= several)
            for (size_t k = j; k-- > j - several;)
                at = encode_one(steps + symbols[g * lanes + k], x + k, words_are_rare, at);
    memcpy(state, x, lanes * sizeof *x);
    return at;
}

/* The number of lanes as a constant; few stay in registers. */
#define ENCODE(lanes)                                                                            \
    case lanes:                                                                                  \
        return e->words_are_rare ? encode_groups(steps, symbols, groups, state, lanes, true, at) \
                                 : encode_groups(steps, symbols, groups, state, lanes, false, at)

uint8_t *rans_encode_groups(const rans_encode_table *e, const uint8_t *symbols, size_t groups, uint32_t *state,
                            size_t lanes, uint8_t *at)
{
    step steps[256];
    make_steps(e, steps);
    switch (lanes) {
        ENCODE(64);
        ENCODE(32);
        ENCODE(16);
        ENCODE(8);
        ENCODE(4);
        ENCODE(2);
    default: ENCODE(1);
    }
}

/* One symbol; where the next word is. Branches as above. */
INLINE const uint8_t *decode_one(const uint32_t *table, uint32_t *x, uint8_t *out, bool words_are_rare,
                                 const uint8_t *at)
{
    uint32_t e = table[*x & (PROB_SUM - 1)];
    *out = (uint8_t)e;
    uint32_t y = (e >> 8 & 0xfff) * (*x >> PROB_BITS) + (e >> 20);
    uint64_t more = ((uint64_t)y - RANS_STATE_MIN) >> 32; /* all ones or zero */
    if (!words_are_rare || more)
        y = y << (more & 16) | (load_u16(at) & (uint32_t)more);
    *x = y;
    return at + (more & 2);
}

/* While the words left are enough for any group; returns the symbols done. */
INLINE size_t decode_groups(rans_decoder *d, uint8_t *restrict out, size_t n, size_t lanes, bool words_are_rare)
{
    const size_t several = lanes < 4 ? 1 : 4; /* fewer steps of the loop */
    const uint32_t *table = rans_table(d);
    const uint8_t *at = d->at, *end = d->end;
    uint32_t x[MOST_LANES];
    size_t done = 0;
    memcpy(x, d->state, lanes * sizeof *x);
    for (; n - done >= lanes && (size_t)(end - at) >= 2 * lanes; done += lanes)
        for (size_t j = 0; j < lanes; j += several)
            for (size_t k = j; k < j + several; k++)
                at = decode_one(table, x + k, out + done + k, words_are_rare, at);
    memcpy(d->state, x, lanes * sizeof *x);
    d->at = at;
    return done;
}

#define DECODE(lanes) \
    case lanes:       \
        return d->words_are_rare ? decode_groups(d, out, n, lanes, true) : decode_groups(d, out, n, lanes, false)

size_t rans_decode_groups(rans_decoder *d, uint8_t *out, size_t n)
{
    switch (d->lanes) {
        DECODE(64);
        DECODE(32);
        DECODE(16);
        DECODE(8);
        DECODE(4);
        DECODE(2);
    default: DECODE(1);
    }
}
