/* The loops over a segment's elements in the split form, compiled for several instruction sets (FORMAT.md,
 * section 5.2).
 *
 * A segment's low numbers are cut into slices of 8 bits, what remains into slices of 4, 2 and 1 bit. A slice of p bits
 * takes B = ceil(n p / 8) bytes, element i in byte i mod B at bit p floor(i / B): neighbours lie in neighbouring bytes,
 * so that every loop here runs over bytes in order and the compiler vectorises it. All loops are over whole segments; a
 * shorter one is worked on in padded copies. */
#include "planes.h"

enum { MOST_SLICES = 8 };

/* ---- the slices of less than 8 bits ---- */

static size_t slice_bytes(size_t n, unsigned bits) { return (n * bits + 7) / 8; }

size_t packed_bytes(size_t n, unsigned width)
{
    size_t size = n * (width / 8);
    for (unsigned bits = 4; bits; bits /= 2)
        size += width & bits ? slice_bytes(n, bits) : 0;
    return size;
}

/* Whether the places for elements beyond the last are zero: in each slice, the highest ones of its last bytes. */
bool packed_is_padded(const uint8_t *packed, size_t n, unsigned width)
{
    unsigned set = 0;
    packed += n * (width / 8);
    for (unsigned bits = 4; bits; bits /= 2) {
        size_t size = width & bits ? slice_bytes(n, bits) : 0;
        for (size_t i = n; i < size * (8 / bits); i++)
            set |= packed[i % size] >> (bits * (i / size)) & ((1u << bits) - 1);
        packed += size;
    }
    return !set;
}

/* One slice of n values v, which are followed by zeros: the bits from `shift` on. */
INLINE void pack_slice(const uint8_t *v, size_t size, unsigned bits, unsigned shift, uint8_t *restrict out)
{
    for (size_t i = 0; i < size; i++) {
        unsigned byte = 0;
        for (unsigned k = 0; k < 8 / bits; k++)
            byte |= ((unsigned)v[i + k * size] >> shift & ((1u << bits) - 1)) << (bits * k);
        out[i] = (uint8_t)byte;
    }
}

INLINE void pack_rest(const uint8_t *v, size_t n, unsigned width, uint8_t *out)
{
    if (width & 4)
        pack_slice(v, slice_bytes(n, 4), 4, 0, out);
    out += width & 4 ? slice_bytes(n, 4) : 0;
    if (width & 2)
        pack_slice(v, slice_bytes(n, 2), 2, width & 4, out);
    out += width & 2 ? slice_bytes(n, 2) : 0;
    if (width & 1)
        pack_slice(v, slice_bytes(n, 1), 1, width & 6, out);
}

/* The inverse for fewer elements than a segment. */
static void unpack_short(const uint8_t *packed, size_t n, unsigned width, uint8_t v[SEGMENT])
{
    unsigned shift = 0;
    memset(v, 0, SEGMENT);
    for (unsigned bits = 4; bits; bits /= 2) {
        size_t size = width & bits ? slice_bytes(n, bits) : 0;
        for (size_t first = 0, k = 0; size && first < n; first += size, k++)
            for (size_t i = 0; i < size; i++) /* the places behind n are zero, and within the segment */
                v[first + i] |= (uint8_t)((packed[i] >> (bits * k) & ((1u << bits) - 1)) << shift);
        packed += size;
        shift += width & bits;
    }
}

/* And for a whole segment: each eighth of it is in one place of each slice's bytes. All but the pointers are constants.
 */
INLINE void unpack_eighth(const uint8_t *packed, unsigned width, unsigned eighth, uint8_t *restrict v)
{
    const uint8_t *twos = packed + (width & 4 ? SEGMENT / 2 : 0), *ones = twos + (width & 2 ? SEGMENT / 4 : 0);
    for (size_t i = 0; i < SEGMENT / 8; i++) {
        uint8_t u = 0;
        if (width & 4)
            u = packed[eighth % 4 * 64 + i] >> (eighth / 4 * 4) & 15;
        if (width & 2)
            u |= (uint8_t)((twos[eighth % 2 * 64 + i] >> (eighth / 2 * 2) & 3) << (width & 4));
        if (width & 1)
            u |= (uint8_t)((ones[i] >> eighth & 1) << (width & 6));
        v[eighth * 64 + i] = u;
    }
}

INLINE void unpack_rest(const uint8_t *packed, unsigned width, uint8_t *restrict v)
{
    unpack_eighth(packed, width, 0, v);
    unpack_eighth(packed, width, 1, v);
    unpack_eighth(packed, width, 2, v);
    unpack_eighth(packed, width, 3, v);
    unpack_eighth(packed, width, 4, v);
    unpack_eighth(packed, width, 5, v);
    unpack_eighth(packed, width, 6, v);
    unpack_eighth(packed, width, 7, v);
}

/* ---- the loops over elements of one width ---- */

#define ELEMENT_LOOPS(WORD)                                                                                            \
    INLINE WORD load_##WORD(const uint8_t *p, size_t i)                                                                \
    {                                                                                                                  \
        WORD u;                                                                                                        \
        memcpy(&u, p + i * sizeof u, sizeof u);                                                                        \
        return u;                                                                                                      \
    }                                                                                                                  \
                                                                                                                       \
    INLINE segment_look look_##WORD(const uint8_t *elements)                                                           \
    {                                                                                                                  \
        WORD any = 0, nonzero = 0;                                                                                     \
        for (size_t i = 0; i < SEGMENT; i++) {                                                                         \
            WORD u = load_##WORD(elements, i);                                                                         \
            any |= u;                                                                                                  \
            nonzero = (WORD)(nonzero + (u != 0));                                                                      \
        }                                                                                                              \
        return (segment_look){any, (uint32_t)nonzero};                                                                 \
    }                                                                                                                  \
                                                                                                                       \
    INLINE bool symbols_##WORD(const split_form *f, const uint8_t *elements, uint8_t *restrict symbols)                \
    {                                                                                                                  \
        const WORD magnitude = (WORD) ~(WORD)0 >> 1, base = (WORD)f->base, span = (WORD)f->span,                       \
                   escape = f->is_sparse;                                                                              \
        const unsigned low = f->low;                                                                                   \
        WORD escaped = 0;                                                                                              \
        for (size_t i = 0; i < SEGMENT; i++) {                                                                         \
            WORD u = load_##WORD(elements, i), t = (WORD)((u & magnitude) >> low), d = (WORD)(t - base);               \
            WORD inside = (WORD)(d - 1) < span, other = (WORD)(u != 0) & escape;                                       \
            symbols[i] = (uint8_t)(inside ? (WORD)(d + escape) : other);                                               \
            escaped |= (WORD)((t != 0) & !inside);                                                                     \
        }                                                                                                              \
        return escaped;                                                                                                \
    }                                                                                                                  \
                                                                                                                       \
    INLINE void cut_##WORD(const split_form *f, const uint8_t *elements, unsigned zeros, unsigned slices,              \
                           uint8_t(*restrict out)[SEGMENT])                                                            \
    {                                                                                                                  \
        const unsigned low = f->low, sign = 8 * sizeof(WORD) - 1;                                                      \
        const WORD mask = (WORD)(((WORD)1 << low) - 1);                                                                \
        for (size_t i = 0; i < SEGMENT; i++) {                                                                         \
            WORD u = load_##WORD(elements, i);                                                                         \
            u = (WORD)((WORD)((u & mask) | (WORD)(u >> sign) << low) >> zeros);                                        \
            for (unsigned k = 0; k < slices; k++)                                                                      \
                out[k][i] = (uint8_t)(u >> (8 * k));                                                                   \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    INLINE void join_##WORD(const split_form *f, const uint8_t *symbols, const uint8_t *const *slice, unsigned slices, \
                            unsigned zeros, uint8_t *restrict elements)                                                \
    {                                                                                                                  \
        const unsigned low = f->low, sign = 8 * sizeof(WORD) - 1;                                                      \
        const WORD mask = (WORD)(((WORD)1 << low) - 1), tops = (WORD)((WORD) ~(WORD)0 >> 1 >> low);                    \
        const WORD base = (WORD)f->base, escape = f->is_sparse;                                                        \
        const uint8_t *in[MOST_SLICES];                                                                                \
        for (unsigned k = 0; k < slices; k++)                                                                          \
            in[k] = slice[k]; /* where stores to the elements cannot change it */                                      \
        for (size_t i = 0; i < SEGMENT; i++) {                                                                         \
            WORD u = 0, s = symbols[i], t = (WORD)((s - escape + base) & tops);                                        \
            for (unsigned k = 0; k < slices; k++)                                                                      \
                u |= (WORD)((WORD)in[k][i] << (8 * k));                                                                \
            u = (WORD)(u << zeros);                                                                                    \
            t = s > escape ? t : 0;                                                                                    \
            u = (WORD)((u & mask) | (WORD)(t << low) | (WORD)((WORD)(u >> low) << sign));                              \
            memcpy(elements + i * sizeof u, &u, sizeof u);                                                             \
        }                                                                                                              \
    }
ELEMENT_LOOPS(uint16_t)
ELEMENT_LOOPS(uint32_t)
ELEMENT_LOOPS(uint64_t)

/* A loop over slices with their number as a constant, so that each is compiled for its own. */
#define FOR_SLICES(slices, loop) \
    switch (slices) {            \
    case 0: loop(0); break;      \
    case 1: loop(1); break;      \
    case 2: loop(2); break;      \
    case 3: loop(3); break;      \
    case 4: loop(4); break;      \
    case 5: loop(5); break;      \
    case 6: loop(6); break;      \
    case 7: loop(7); break;      \
    default: loop(8);            \
    }

INLINE void cut_body(const split_form *f, const uint8_t *elements, unsigned zeros, unsigned slices,
                     uint8_t (*restrict out)[SEGMENT])
{
#define CUT_16(count) cut_uint16_t(f, elements, zeros, (count) < 2 ? (count) : 2, out)
#define CUT_32(count) cut_uint32_t(f, elements, zeros, (count) < 4 ? (count) : 4, out)
#define CUT_64(count) cut_uint64_t(f, elements, zeros, count, out)
    switch (f->bytes) {
    case 2: FOR_SLICES(slices < 2 ? slices : 2, CUT_16) break;
    case 4: FOR_SLICES(slices < 4 ? slices : 4, CUT_32) break;
    default: FOR_SLICES(slices, CUT_64)
    }
}

INLINE void join_body(const split_form *f, const uint8_t *symbols, const uint8_t *const *in, unsigned slices,
                      unsigned zeros, uint8_t *restrict elements)
{
#define JOIN_16(count) join_uint16_t(f, symbols, in, (count) < 2 ? (count) : 2, zeros, elements)
#define JOIN_32(count) join_uint32_t(f, symbols, in, (count) < 4 ? (count) : 4, zeros, elements)
#define JOIN_64(count) join_uint64_t(f, symbols, in, count, zeros, elements)
    switch (f->bytes) {
    case 2: FOR_SLICES(slices < 2 ? slices : 2, JOIN_16) break;
    case 4: FOR_SLICES(slices < 4 ? slices : 4, JOIN_32) break;
    default: FOR_SLICES(slices, JOIN_64)
    }
}

INLINE segment_look look_body(const uint8_t *e, unsigned bytes)
{
    return bytes == 2 ? look_uint16_t(e) : bytes == 4 ? look_uint32_t(e) : look_uint64_t(e);
}

INLINE bool symbols_body(const split_form *f, const uint8_t *e, uint8_t *restrict symbols)
{
    switch (f->bytes) {
    case 2: return symbols_uint16_t(f, e, symbols);
    case 4: return symbols_uint32_t(f, e, symbols);
    default: return symbols_uint64_t(f, e, symbols);
    }
}

#define KERNELS(suffix, target)                                                                   \
    target static segment_look look_##suffix(const uint8_t *elements, unsigned bytes)             \
    {                                                                                             \
        return look_body(elements, bytes);                                                        \
    }                                                                                             \
                                                                                                  \
    target static void pack_##suffix(const uint8_t v[SEGMENT], unsigned width, uint8_t *out)      \
    {                                                                                             \
        pack_rest(v, SEGMENT, width, out);                                                        \
    }                                                                                             \
                                                                                                  \
    target static void unpack_##suffix(const uint8_t *packed, unsigned width, uint8_t v[SEGMENT]) \
    {                                                                                             \
        switch (width & 7) { /* as constants */                                                   \
        case 1: unpack_rest(packed, 1, v); break;                                                 \
        case 2: unpack_rest(packed, 2, v); break;                                                 \
        case 3: unpack_rest(packed, 3, v); break;                                                 \
        case 4: unpack_rest(packed, 4, v); break;                                                 \
        case 5: unpack_rest(packed, 5, v); break;                                                 \
        case 6: unpack_rest(packed, 6, v); break;                                                 \
        default: unpack_rest(packed, 7, v);                                                       \
        }                                                                                         \
    }
KERNELS(scalar, )
KERNELS(avx2, TARGET_AVX2)
KERNELS(avx512, TARGET_AVX512)

#define SYMBOLS_AND_CUT(suffix, target)                                                                            \
    target static bool symbols_##suffix(const split_form *f, const uint8_t *elements, uint8_t *symbols)            \
    {                                                                                                              \
        return symbols_body(f, elements, symbols);                                                                 \
    }                                                                                                              \
                                                                                                                   \
    target static void cut_##suffix(const split_form *f, const uint8_t *elements, unsigned zeros, unsigned slices, \
                                    uint8_t(*out)[SEGMENT])                                                        \
    {                                                                                                              \
        cut_body(f, elements, zeros, slices, out);                                                                 \
    }
#define JOIN(suffix, target)                                                                                \
    target static void join_##suffix(const split_form *f, const uint8_t *symbols, const uint8_t *const *in, \
                                     unsigned slices, unsigned zeros, uint8_t *elements)                    \
    {                                                                                                       \
        join_body(f, symbols, in, slices, zeros, elements);                                                 \
    }
SYMBOLS_AND_CUT(scalar, )
SYMBOLS_AND_CUT(avx512, TARGET_AVX512)
JOIN(scalar, )
#if defined(__x86_64__)
#define join_avx512 split_join_avx512

TARGET_AVX2 static bool symbols_avx2(const split_form *f, const uint8_t *elements, uint8_t *symbols)
{
    switch (f->bytes) {
    case 2: return split_symbols_16_avx2(f, elements, symbols);
    case 4: return split_symbols_32_avx2(f, elements, symbols);
    default: return symbols_uint64_t(f, elements, symbols);
    }
}

TARGET_AVX2 static void cut_avx2(const split_form *f, const uint8_t *elements, unsigned zeros, unsigned slices,
                                 uint8_t (*out)[SEGMENT])
{
    switch (f->bytes) {
    case 2: split_cut_16_avx2(f, elements, zeros, slices, out); break;
    case 4: split_cut_32_avx2(f, elements, zeros, slices, out); break;
    default: FOR_SLICES(slices, CUT_64)
    }
}

TARGET_AVX2 static void join_avx2(const split_form *f, const uint8_t *symbols, const uint8_t *const *in,
                                  unsigned slices, unsigned zeros, uint8_t *elements)
{
    switch (f->bytes) {
    case 2: split_join_16_avx2(f, symbols, in, slices, zeros, elements); break;
    case 4: split_join_32_avx2(f, symbols, in, slices, zeros, elements); break;
    default: FOR_SLICES(slices, JOIN_64)
    }
}
#else
SYMBOLS_AND_CUT(avx2, )
JOIN(avx2, )
#define join_avx512 join_scalar
#endif

/* ---- segments of any length up to SEGMENT ---- */

/* The elements, padded with zeros in `room` where they are fewer than a segment. */
static const uint8_t *whole_segment(const uint8_t *elements, size_t n, unsigned bytes, uint8_t room[SEGMENT * 8])
{
    if (n == SEGMENT)
        return elements;
    memcpy(room, elements, n * bytes);
    memset(room + n * bytes, 0, (SEGMENT - n) * bytes);
    return room;
}

segment_look look_at_segment(const uint8_t *elements, size_t n, unsigned bytes, uint32_t isa)
{
    uint8_t room[SEGMENT * 8];
    return PICK(isa, look)(whole_segment(elements, n, bytes, room), bytes);
}

void look_at_segments(const uint8_t *elements, size_t n, unsigned bytes, uint32_t isa, segment_look *looks)
{
    for (size_t done = 0; done < n; done += SEGMENT) {
        size_t part = n - done < SEGMENT ? n - done : SEGMENT;
        *looks++ = look_at_segment(elements + done * bytes, part, bytes, isa);
    }
}

/* The symbols; whether any element is an escape. */
bool split_symbols(const split_form *f, const uint8_t *elements, size_t n, uint32_t isa, uint8_t *symbols)
{
    uint8_t room[SEGMENT * 8], padded[SEGMENT];
    if (n == SEGMENT)
        return PICK(isa, symbols)(f, elements, symbols);
    bool escaped = PICK(isa, symbols)(f, whole_segment(elements, n, f->bytes, room), padded);
    memcpy(symbols, padded, n);
    return escaped;
}

/* The low numbers without their lowest `zeros` bits, packed: packed_bytes(n, width) bytes. */
void split_low_bits(const split_form *f, const uint8_t *elements, size_t n, unsigned zeros, uint32_t isa, uint8_t *raw)
{
    unsigned width = f->low + f->has_signs - zeros, whole = width / 8;
    uint8_t room[SEGMENT * 8], slices[MOST_SLICES][SEGMENT];
    PICK(isa, cut)(f, whole_segment(elements, n, f->bytes, room), zeros, (width + 7) / 8, slices);
    for (unsigned k = 0; k < whole; k++)
        memcpy(raw + k * n, slices[k], n);
    if (width % 8 && n == SEGMENT)
        PICK(isa, pack)(slices[whole], width, raw + whole * n);
    else if (width % 8)
        pack_rest(slices[whole], n, width, raw + whole * n);
}

/* split_join for fewer elements than a segment. */
static void join_short(const split_form *f, const uint8_t *symbols, const uint8_t *raw, size_t n, unsigned zeros,
                       uint32_t isa, uint8_t *elements)
{
    unsigned width = f->low + f->has_signs - zeros, whole = width / 8;
    uint8_t room[MOST_SLICES][SEGMENT], padded[SEGMENT] = {0}, joined[SEGMENT * 8];
    const uint8_t *slices[MOST_SLICES];
    memset(room, 0, sizeof room);
    for (unsigned k = 0; k < MOST_SLICES; k++)
        slices[k] = k < whole ? memcpy(room[k], raw + k * n, n) : room[k];
    if (width % 8)
        unpack_short(raw + whole * n, n, width, room[whole]);
    memcpy(padded, symbols, n);
    PICK(isa, join)(f, padded, slices, (width + 7) / 8, zeros, joined);
    memcpy(elements, joined, n * f->bytes);
}

/* Where each slice of 8 bits is, the last one unpacked in `rest`, which stands for those beyond it, too. */
void low_slices(const uint8_t *raw, size_t n, unsigned width, unsigned most, uint32_t isa, const uint8_t **slices,
                uint8_t rest[SEGMENT])
{
    const unsigned whole = width / 8;
    for (unsigned k = 0; k < most; k++)
        slices[k] = k < whole ? raw + k * n : rest;
    if (width % 8 && n == SEGMENT)
        PICK(isa, unpack)(raw + whole * n, width, rest);
    else if (width % 8)
        unpack_short(raw + whole * n, n, width, rest);
}

/* The elements from their symbols and packed low numbers. */
void split_join(const split_form *f, const uint8_t *symbols, const uint8_t *raw, size_t n, unsigned zeros, uint32_t isa,
                uint8_t *elements)
{
    unsigned width = f->low + f->has_signs - zeros;
    uint8_t rest[SEGMENT];
    const uint8_t *slices[MOST_SLICES];
    if (n < SEGMENT) {
        join_short(f, symbols, raw, n, zeros, isa, elements);
        return;
    }
    low_slices(raw, n, width, MOST_SLICES, isa, slices, rest);
    PICK(isa, join)(f, symbols, slices, (width + 7) / 8, zeros, elements);
}
