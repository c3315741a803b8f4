/* Residuals of groups with raw low bits: to symbols and a bit string, and back (FORMAT.md, section 11). */
#include "interp_low.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { MOST_AT_ONCE = 56 }; /* bits that put_bits takes */
enum { JOIN_AHEAD = 64 };   /* bytes that vectors read at a time, at most */

static unsigned bits_of(const uint8_t k[INTERP_GROUPS], uint8_t group) { return group < INTERP_GROUPS ? k[group] : 0; }

static void split_scalar(const int32_t *q, const uint8_t *groups, size_t n, const uint8_t k[INTERP_GROUPS],
                         uint8_t *symbols, bit_writer *low)
{
    uint64_t string = 0;
    unsigned have = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned bits = bits_of(k, groups[i]);
        symbols[i] = (uint8_t)interp_symbol(q[i], bits);
        string |= (uint64_t)((uint32_t)interp_centred(q[i], bits) & ((1u << bits) - 1)) << have;
        have += bits;
        if (have > MOST_AT_ONCE - INTERP_MOST_LOW) {
            put_bits(low, string, have);
            string = have = 0;
        }
    }
    put_bits(low, string, have);
}

static void cells_scalar(const int32_t *q, const uint8_t *classes, size_t n, uint8_t mask,
                         const uint8_t k[INTERP_CLASSES + 1], uint16_t *cells)
{
    for (size_t i = 0; i < n; i++) {
        unsigned c = classes[i] & mask;
        cells[i] = (uint16_t)(c << 8 | interp_symbol(q[i], k[c]));
    }
}

static void outside_scalar(const uint8_t *symbols, const uint8_t *groups, size_t n, const uint8_t least[INTERP_GROUPS],
                           const uint8_t most[INTERP_GROUPS], uint64_t *outside)
{
    memset(outside, 0, (n + 63) / 64 * sizeof *outside);
    for (size_t i = 0; i < n; i++)
        if (groups[i] < INTERP_GROUPS && (symbols[i] < least[groups[i]] || symbols[i] > most[groups[i]]))
            outside[i / 64] |= (uint64_t)1 << i % 64;
}

INLINE void widen_body(const uint8_t *symbols, size_t n, int32_t *q)
{
    for (size_t i = 0; i < n; i++)
        q[i] = (int32_t)symbols[i] - INTERP_CENTRE;
}
static void widen_scalar(const uint8_t *symbols, size_t n, int32_t *q) { widen_body(symbols, n, q); }

static bit_place place_of(const bit_reader *b) { return (bit_place){b->at - (b->have + 7) / 8, -b->have & 7}; }

static void go_to(bit_reader *b, bit_place p)
{
    b->at = p.at;
    b->acc = b->have = 0;
    get_bits(b, p.offset);
}

static int32_t joined(int32_t high, uint32_t low, unsigned bits)
{
    return (int32_t)(((uint32_t)high << bits | low) - ((1u << bits) >> 1));
}

static void join_scalar(const uint8_t *groups, size_t n, const uint8_t k[INTERP_GROUPS], bit_reader *low, int32_t *q)
{
    bit_place p = place_of(low);
    size_t i = 0;
    for (; i < n && low->end - p.at >= 8; i++) {
        unsigned bits = bits_of(k, groups[i]);
        q[i] = joined(q[i], (uint32_t)(load_u64(p.at) >> p.offset) & ((1u << bits) - 1), bits);
        bit_place_advance(&p, bits);
    }
    go_to(low, p);
    for (; i < n; i++) {
        unsigned bits = bits_of(k, groups[i]);
        q[i] = joined(q[i], (uint32_t)get_bits(low, bits), bits);
    }
}

#if defined(__x86_64__)
static void split_avx2(const int32_t *q, const uint8_t *groups, size_t n, const uint8_t k[INTERP_GROUPS],
                       uint8_t *symbols, bit_writer *low)
{
    size_t done = interp_low_split_avx2(q, groups, n, k, symbols, low);
    split_scalar(q + done, groups + done, n - done, k, symbols + done, low);
}

static void cells_avx2(const int32_t *q, const uint8_t *classes, size_t n, uint8_t mask,
                       const uint8_t k[INTERP_CLASSES + 1], uint16_t *cells)
{
    size_t done = interp_low_cells_avx2(q, classes, n, mask, k, cells);
    cells_scalar(q + done, classes + done, n - done, mask, k, cells + done);
}

static void outside_avx2(const uint8_t *symbols, const uint8_t *groups, size_t n, const uint8_t least[INTERP_GROUPS],
                         const uint8_t most[INTERP_GROUPS], uint64_t *outside)
{
    size_t done = interp_low_outside_avx2(symbols, groups, n, least, most, outside);
    outside_scalar(symbols + done, groups + done, n - done, least, most, outside + done / 64);
}

TARGET_AVX2 static void widen_avx2(const uint8_t *symbols, size_t n, int32_t *q) { widen_body(symbols, n, q); }

/* A loop of vectors over as many values as there is room to read ahead for; returns how many. */
typedef size_t join_loop(const uint8_t *groups, size_t n, const uint8_t k[INTERP_GROUPS], const uint8_t *end,
                         bit_place *place, int32_t *q);

/* Near the end of the bits vectors read from a copy that has zeros behind it. */
static size_t join_last(join_loop *loop, const uint8_t *groups, size_t n, const uint8_t k[INTERP_GROUPS],
                        bit_reader *low, bit_place *place, int32_t *q)
{
    uint8_t copy[2 * JOIN_AHEAD] = {0};
    size_t left = (size_t)(low->end - place->at);
    bit_place p = {copy, place->offset};
    memcpy(copy, place->at, left);
    size_t done = loop(groups, n, k, copy + sizeof copy, &p, q), taken = (size_t)(p.at - copy);
    low->failed |= taken + (p.offset > 0) > left;
    *place = (bit_place){low->end - left + (taken < left ? taken : left), p.offset};
    return done;
}

static void join_by(join_loop *loop, const uint8_t *groups, size_t n, const uint8_t k[INTERP_GROUPS], bit_reader *low,
                    int32_t *q)
{
    bit_place p = place_of(low);
    size_t done = loop(groups, n, k, low->end, &p, q);
    if (low->end - p.at < JOIN_AHEAD)
        done += join_last(loop, groups + done, n - done, k, low, &p, q + done);
    go_to(low, p);
    join_scalar(groups + done, n - done, k, low, q + done);
}

static void join_avx2(const uint8_t *groups, size_t n, const uint8_t k[INTERP_GROUPS], bit_reader *low, int32_t *q)
{
    join_by(interp_low_join_avx2, groups, n, k, low, q);
}

/* The low bits of 16 values' groups; INTERP_NO_GROUP has none. */
TARGET_AVX512 static inline __m512i bits_avx512(const uint8_t *groups, __m128i k)
{
    return _mm512_cvtepu8_epi32(_mm_shuffle_epi8(k, _mm_loadu_si128((const __m128i *)(const void *)groups)));
}

TARGET_AVX512 static inline __m512i centred_avx512(__m512i q, __m512i bits)
{
    return _mm512_add_epi32(q, _mm512_srli_epi32(_mm512_sllv_epi32(_mm512_set1_epi32(1), bits), 1));
}

/* 0 for those beyond. */
TARGET_AVX512 static inline __m512i symbols_avx512(__m512i centred, __m512i bits)
{
    __m512i s = _mm512_add_epi32(_mm512_srav_epi32(centred, bits), _mm512_set1_epi32(INTERP_CENTRE));
    return _mm512_maskz_mov_epi32(_mm512_cmplt_epu32_mask(s, _mm512_set1_epi32(256)), s);
}

/* Neighbours in one, as long as eight bits of a byte begun and all of theirs go into 64; then one after the other. */
TARGET_AVX512 static inline void put_avx512(__m512i v, __m512i bits, unsigned most, bit_writer *low)
{
    const __m512i half = _mm512_set1_epi64(0xffffffff);
    uint64_t strings[8], lengths[8];
    __m512i n = _mm512_and_si512(bits, half), m = _mm512_srli_epi64(bits, 32);
    v = _mm512_or_si512(_mm512_and_si512(v, half), _mm512_sllv_epi64(_mm512_srli_epi64(v, 32), n));
    n = _mm512_add_epi64(n, m);
    unsigned apart = 1;
    if (most <= 14) {
        __m512i next = _mm512_permutex_epi64(v, 0xb1);
        v = _mm512_or_si512(v, _mm512_sllv_epi64(next, n));
        n = _mm512_add_epi64(n, _mm512_permutex_epi64(n, 0xb1));
        apart = 2;
    }
    if (most <= 7) {
        __m512i next = _mm512_permutex_epi64(v, 0x4e);
        v = _mm512_or_si512(v, _mm512_sllv_epi64(next, n));
        n = _mm512_add_epi64(n, _mm512_permutex_epi64(n, 0x4e));
        apart = 4;
    }
    _mm512_storeu_si512(strings, v);
    _mm512_storeu_si512(lengths, n);
    for (unsigned i = 0; i < 8; i += apart)
        put_bits(low, strings[i], (unsigned)lengths[i]);
}

TARGET_AVX512 static void split_avx512(const int32_t *q, const uint8_t *groups, size_t n,
                                       const uint8_t k[INTERP_GROUPS], uint8_t *symbols, bit_writer *low)
{
    const __m128i table = _mm_loadu_si128((const __m128i *)(const void *)k);
    const __m512i all = _mm512_set1_epi32(-1);
    unsigned most = 0;
    size_t i = 0;
    for (unsigned g = 0; g < INTERP_GROUPS; g++)
        most = k[g] > most ? k[g] : most;
    for (; i + 16 <= n; i += 16) {
        __m512i bits = bits_avx512(groups + i, table), v = centred_avx512(_mm512_loadu_si512(q + i), bits);
        __m128i s = _mm512_cvtepi32_epi8(symbols_avx512(v, bits));
        _mm_storeu_si128((__m128i *)(void *)(symbols + i), s);
        if (most)
            put_avx512(_mm512_andnot_si512(_mm512_sllv_epi32(all, bits), v), bits, most, low);
    }
    split_scalar(q + i, groups + i, n - i, k, symbols + i, low);
}

TARGET_AVX512 static void cells_avx512(const int32_t *q, const uint8_t *classes, size_t n, uint8_t mask,
                                       const uint8_t k[INTERP_CLASSES + 1], uint16_t *cells)
{
    const __m512i table = _mm512_loadu_si512(k);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m128i c = _mm_loadu_si128((const __m128i *)(const void *)(classes + i));
        c = _mm_and_si128(c, _mm_set1_epi8((char)mask));
        __mmask16 skipped = _mm_cmpge_epu8_mask(c, _mm_set1_epi8(INTERP_CLASSES));
        __m128i of = _mm512_castsi512_si128(_mm512_permutexvar_epi8(_mm512_zextsi128_si512(c), table));
        __m512i bits = _mm512_cvtepu8_epi32(_mm_mask_blend_epi8(skipped, of, _mm_setzero_si128()));
        __m512i s = symbols_avx512(centred_avx512(_mm512_loadu_si512(q + i), bits), bits);
        s = _mm512_or_si512(s, _mm512_slli_epi32(_mm512_cvtepu8_epi32(c), 8));
        _mm256_storeu_si256((__m256i *)(void *)(cells + i), _mm512_cvtepi32_epi16(s));
    }
    cells_scalar(q + i, classes + i, n - i, mask, k, cells + i);
}

TARGET_AVX512 static void outside_avx512(const uint8_t *symbols, const uint8_t *groups, size_t n,
                                         const uint8_t least[INTERP_GROUPS], const uint8_t most[INTERP_GROUPS],
                                         uint64_t *outside)
{
    const __m512i from = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)least));
    const __m512i to = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)most));
    for (size_t i = 0; i < n; i += 64) {
        __mmask64 there = n - i < 64 ? ((uint64_t)1 << (n - i)) - 1 : ~(uint64_t)0;
        __m512i s = _mm512_maskz_loadu_epi8(there, symbols + i), g = _mm512_maskz_loadu_epi8(there, groups + i);
        there = _mm512_mask_cmplt_epu8_mask(there, g, _mm512_set1_epi8(INTERP_GROUPS));
        outside[i / 64] = _mm512_mask_cmplt_epu8_mask(there, s, _mm512_shuffle_epi8(from, g)) |
                          _mm512_mask_cmpgt_epu8_mask(there, s, _mm512_shuffle_epi8(to, g));
    }
}

TARGET_AVX512 static void widen_avx512(const uint8_t *symbols, size_t n, int32_t *q) { widen_body(symbols, n, q); }

/* Lanes' sums with all lanes before them. */
TARGET_AVX512 static inline __m512i sums_avx512(__m512i x)
{
    const __m512i zero = _mm512_setzero_si512();
    x = _mm512_add_epi32(x, _mm512_alignr_epi32(x, zero, 15));
    x = _mm512_add_epi32(x, _mm512_alignr_epi32(x, zero, 14));
    x = _mm512_add_epi32(x, _mm512_alignr_epi32(x, zero, 12));
    return _mm512_add_epi32(x, _mm512_alignr_epi32(x, zero, 8));
}

/* 16 values have at most 16 x 24 bits, which lie in 64 bytes wherever in the first they begin. */
TARGET_AVX512 static size_t join_vectors(const uint8_t *groups, size_t n, const uint8_t k[INTERP_GROUPS],
                                         const uint8_t *end, bit_place *place, int32_t *q)
{
    const __m128i table = _mm_loadu_si128((const __m128i *)(const void *)k);
    const __m512i one = _mm512_set1_epi32(1), seven = _mm512_set1_epi32(7);
    bit_place p = *place;
    size_t i = 0;
    for (; i + 16 <= n && end - p.at >= JOIN_AHEAD; i += 16) {
        __m512i bits = bits_avx512(groups + i, table), sums = sums_avx512(bits);
        __m512i from = _mm512_add_epi32(_mm512_sub_epi32(sums, bits), _mm512_set1_epi32((int)p.offset));
        __m512i bytes = _mm512_add_epi32(_mm512_mullo_epi32(_mm512_srli_epi32(from, 3), _mm512_set1_epi32(0x01010101)),
                                         _mm512_set1_epi32(0x03020100));
        __m512i word = _mm512_permutexvar_epi8(bytes, _mm512_loadu_si512(p.at));
        __m512i range = _mm512_sllv_epi32(one, bits);
        __m512i v =
            _mm512_and_si512(_mm512_srlv_epi32(word, _mm512_and_si512(from, seven)), _mm512_sub_epi32(range, one));
        v = _mm512_or_si512(_mm512_sllv_epi32(_mm512_loadu_si512(q + i), bits), v);
        _mm512_storeu_si512(q + i, _mm512_sub_epi32(v, _mm512_srli_epi32(range, 1)));
        bit_place_advance(
            &p, (unsigned)_mm_cvtsi128_si32(_mm512_castsi512_si128(_mm512_maskz_compress_epi32(0x8000, sums))));
    }
    *place = p;
    return i;
}

static void join_avx512(const uint8_t *groups, size_t n, const uint8_t k[INTERP_GROUPS], bit_reader *low, int32_t *q)
{
    join_by(join_vectors, groups, n, k, low, q);
}
#endif

void interp_low_split(const int32_t *q, const uint8_t *groups, size_t n, const uint8_t k[INTERP_GROUPS], uint32_t isa,
                      uint8_t *symbols, bit_writer *low)
{
    PICK_X86(isa, split)(q, groups, n, k, symbols, low);
}

void interp_low_cells(const int32_t *q, const uint8_t *classes, size_t n, uint8_t mask,
                      const uint8_t k[INTERP_CLASSES + 1], uint32_t isa, uint16_t *cells)
{
    PICK_X86(isa, cells)(q, classes, n, mask, k, cells);
}

void interp_low_outside(const uint8_t *symbols, const uint8_t *groups, size_t n, const uint8_t least[INTERP_GROUPS],
                        const uint8_t most[INTERP_GROUPS], uint32_t isa, uint64_t *outside)
{
    PICK_X86(isa, outside)(symbols, groups, n, least, most, outside);
}

void interp_low_widen(const uint8_t *symbols, size_t n, uint32_t isa, int32_t *q)
{
    PICK_X86(isa, widen)(symbols, n, q);
}

void interp_low_join(const uint8_t *groups, size_t n, const uint8_t k[INTERP_GROUPS], uint32_t isa, bit_reader *low,
                     int32_t *q)
{
    PICK_X86(isa, join)(groups, n, k, low, q);
}
