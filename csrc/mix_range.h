/* A binary arithmetic coder with a 64-bit range that moves 32 bits at a time (after LZMA's; FORMAT.md, section 9). */
#ifndef SZD_MIX_RANGE_H
#define SZD_MIX_RANGE_H
#include "mix.h"

/* The highest 32 bits of `low` are settled but for a carry, which travels back over what was written. */
static inline void range_carry(mix_range *c)
{
    for (uint8_t *p = c->out->at; p > c->start && ++*--p == 0;)
        ;
}

static inline void range_add(mix_range *c, uint64_t v)
{
    c->low += v;
    if (c->low < v)
        range_carry(c);
}

static inline void range_emit(mix_range *c)
{
    for (unsigned i = 0; i < 4; i++)
        write_u8(c->out, (unsigned)(c->low >> (56 - 8 * i)) & 255);
    c->low <<= 32;
}

/* The next 32 bits; zeros after the end. */
static inline uint32_t range_fetch(mix_range *c)
{
    uint32_t v = 0;
    for (unsigned i = 0; i < 4; i++)
        v = v << 8 | (c->at < c->end ? *c->at++ : 0);
    return v;
}

static inline void range_begin_decode(mix_range *c, const uint8_t *at, const uint8_t *end)
{
    *c = (mix_range){.range = UINT64_MAX, .at = at, .end = end};
    c->code = (uint64_t)range_fetch(c) << 32;
    c->code |= range_fetch(c);
    c->failed = c->code == UINT64_MAX;
}

INLINE void range_normalise(mix_range *c, bool decode)
{
    if (c->range >> 32)
        return;
    c->range <<= 32;
    if (decode)
        c->code = c->code << 32 | range_fetch(c);
    else
        range_emit(c);
}

/* One decision that is 1 with probability p / 65536; 1 takes the lower part of the range. */
INLINE unsigned range_bit(mix_range *c, bool decode, unsigned bit, uint32_t p)
{
    uint64_t bound = (c->range >> 16) * p;
    if (decode)
        bit = c->code < bound;
    if (bit) {
        c->range = bound;
    } else {
        c->range -= bound;
        if (decode)
            c->code -= bound;
        else
            range_add(c, bound);
    }
    range_normalise(c, decode);
    return bit;
}

/* `count` <= 16 bits, all equally probable. */
INLINE uint32_t range_raw(mix_range *c, bool decode, uint32_t v, unsigned count)
{
    c->range >>= count;
    if (decode) {
        uint64_t got = c->code / c->range;
        if (got >> count) {
            c->failed = true;
            got = 0;
            c->code = 0;
        }
        v = (uint32_t)got;
        c->code -= got * c->range;
    } else {
        range_add(c, v * c->range);
    }
    range_normalise(c, decode);
    return v;
}

/* The shortest bytes that, followed by zeros, lie in the range. */
static inline void range_end_encode(mix_range *c)
{
    unsigned bytes = 0;
    uint64_t mask = UINT64_MAX, v = 0;
    for (; bytes <= 8; bytes++) {
        mask = bytes == 8 ? 0 : UINT64_MAX >> (8 * bytes);
        uint64_t up = (mask - (c->low & mask) + 1) & mask; /* to the next multiple of mask + 1 */
        v = up;
        if (up < c->range)
            break;
    }
    range_add(c, v);
    for (unsigned i = 0; i < bytes; i++)
        write_u8(c->out, (unsigned)(c->low >> (56 - 8 * i)) & 255);
    while (!c->out->failed && c->out->at > c->start && c->out->at[-1] == 0)
        c->out->at--;
}
#endif
