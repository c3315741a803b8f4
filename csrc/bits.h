/* Bit strings: least significant bit first (FORMAT.md, section 1), and Exp-Golomb codes in them. */
#ifndef SZD_BITS_H
#define SZD_BITS_H
#include "bytes.h"
#include <assert.h>

static inline unsigned bit_length(uint64_t v) { return v ? 64u - (unsigned)__builtin_clzll(v) : 0; }

typedef struct bit_writer {
    writer *out;
    uint64_t acc; /* the low `have` bits wait to be written; have < 8 between calls */
    unsigned have;
} bit_writer;

/* count <= 56, and v < 2^count */
static inline void put_bits(bit_writer *b, uint64_t v, unsigned count)
{
    assert(count <= 56 && v >> count == 0);
    b->acc |= v << b->have;
    b->have += count;
    if (writer_left(b->out) >= 8) {
        store_u64(b->out->at, b->acc);
        b->out->at += b->have >> 3;
        b->acc >>= b->have & ~7u;
        b->have &= 7;
        return;
    }
    while (b->have >= 8) {
        write_u8(b->out, (unsigned)(b->acc & 0xff));
        b->acc >>= 8;
        b->have -= 8;
    }
}

static inline void flush_bits(bit_writer *b)
{
    if (b->have)
        write_u8(b->out, (unsigned)b->acc);
    b->acc = 0;
    b->have = 0;
}

static inline void put_exp_golomb(bit_writer *b, uint64_t u, unsigned g)
{
    uint64_t v = u + ((uint64_t)1 << g);
    unsigned low = bit_length(v) - 1, zeros = low - g;
    for (; zeros > 32; zeros -= 32)
        put_bits(b, 0, 32);
    put_bits(b, (uint64_t)1 << zeros, zeros + 1);
    if (low > 32) {
        put_bits(b, v & 0xffffffff, 32);
        put_bits(b, v >> 32 & (((uint64_t)1 << (low - 32)) - 1), low - 32);
    } else {
        put_bits(b, v & (((uint64_t)1 << low) - 1), low);
    }
}

static inline unsigned exp_golomb_bits(uint64_t u, unsigned g)
{
    return 2 * bit_length(u + ((uint64_t)1 << g)) - 1 - g;
}

enum { EXP_GOLOMB_ORDERS = 32 };

static inline void add_exp_golomb_costs(uint64_t costs[EXP_GOLOMB_ORDERS], uint64_t u)
{
    for (unsigned g = 0; g < EXP_GOLOMB_ORDERS; g++)
        costs[g] += exp_golomb_bits(u, g);
}

static inline unsigned cheapest_order(const uint64_t costs[EXP_GOLOMB_ORDERS])
{
    unsigned order = 0;
    for (unsigned g = 1; g < EXP_GOLOMB_ORDERS; g++)
        order = costs[g] < costs[order] ? g : order;
    return order;
}

typedef struct bit_reader {
    const uint8_t *at;
    const uint8_t *end;
    uint64_t acc;
    unsigned have;
    bool failed;
} bit_reader;

static inline void refill(bit_reader *b)
{
    if (b->end - b->at >= 8) {
        /* Whole bytes that fit are taken; bits of the next byte may be or-ed in early, and again the same later. */
        b->acc |= load_u64(b->at) << b->have;
        b->at += (63 - b->have) >> 3;
        b->have |= 56;
        return;
    }
    while (b->have <= 56 && b->at < b->end) {
        b->acc |= (uint64_t)*b->at++ << b->have;
        b->have += 8;
    }
}

/* count <= 56 */
static inline uint64_t get_bits(bit_reader *b, unsigned count)
{
    refill(b);
    if (b->have < count) {
        b->failed = true;
        return 0;
    }
    uint64_t v = b->acc & (((uint64_t)1 << count) - 1);
    b->acc >>= count;
    b->have -= count;
    return v;
}

static inline uint64_t get_exp_golomb(bit_reader *b, unsigned g)
{
    unsigned zeros = 0;
    while (get_bits(b, 1) == 0)
        if (b->failed || ++zeros + g > 63) {
            b->failed = true;
            return 0;
        }
    unsigned low = zeros + g;
    uint64_t v = get_bits(b, low > 32 ? 32 : low);
    if (low > 32)
        v |= get_bits(b, low - 32) << 32;
    return v + ((uint64_t)1 << low) - ((uint64_t)1 << g);
}

/* Where the bit string ends: its last byte's unused bits must be zero. Returns the first byte after it. */
static inline const uint8_t *end_bits(bit_reader *b)
{
    unsigned whole = b->have >> 3, rest = b->have & 7;
    if (b->acc & ((1u << rest) - 1))
        b->failed = true;
    return b->at - whole;
}
#endif
