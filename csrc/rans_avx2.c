/* rANS with 8 lanes in a vector. Bit-identical to the scalar loops in rans.c. */
#include "rans_lookup.h"
#include "sets.h"
#if defined(__x86_64__)
#include <immintrin.h>

enum { VECTORS = (1 << RANS_LANES_LOG2) / 8 };

/* Word number `word` as a pair of byte numbers for the byte shuffle; word -1: a zero. */
#define WORD(word) ((uint16_t)(0x100 + 0x202 * (word)))

/* Hands the first words to the lanes of the set, in order, and zeros to the others. */
#define EXPANDED(set, lane) WORD((set) >> (lane) & 1 ? __builtin_popcount((set) & ((1 << (lane)) - 1)) : -1)
static const uint16_t expand[256][8] __attribute__((aligned(64))) = ROWS(EXPANDED);

/* Moves the words of the lanes that are NOT in the set to the end, in order, and zeros before them. The word for `at`
 * is that of the last lane from which on there are at least 8 - at of those lanes. */
#define OTHERS(set, from) __builtin_popcount((255 - (set)) >> (from))
#define PAST(set, from, at) (OTHERS(set, from) >= 8 - (at))
#define COMPRESSED(set, at)                                                                             \
    WORD(PAST(set, 0, at) + PAST(set, 1, at) + PAST(set, 2, at) + PAST(set, 3, at) + PAST(set, 4, at) + \
         PAST(set, 5, at) + PAST(set, 6, at) + PAST(set, 7, at) - 1)
static const uint16_t compress_others[256][8] __attribute__((aligned(64))) = ROWS(COMPRESSED);

/* What the encoder looks up by the symbol. */
typedef struct entry {
    uint32_t slots;
    float inverse;
} entry;

/* Inverses of f / 2, for `push`. */
static void make_entries(const rans_encode_table *e, entry *entries)
{
    for (unsigned s = 0; s < 256; s++) {
        uint32_t f = e->slots[s] >> PROB_BITS;
        entries[s].slots = e->slots[s];
        entries[s].inverse = f <= 1 ? 2.0f : (2.0f - 0x1p-21f) / (float)f;
    }
}

TARGET_AVX2 INLINE __m128i two(const entry *entries, const uint8_t *symbols)
{
    __m128i a = _mm_loadl_epi64((const __m128i *)(const void *)(entries + symbols[0]));
    return _mm_unpacklo_epi64(a, _mm_loadl_epi64((const __m128i *)(const void *)(entries + symbols[1])));
}

TARGET_AVX2 INLINE void look_up_entries(const entry *entries, const uint8_t *symbols, __m256i *slots, __m256 *inverse)
{
    __m256i a = _mm256_inserti128_si256(_mm256_castsi128_si256(two(entries, symbols)), two(entries, symbols + 4), 1);
    __m256i b =
        _mm256_inserti128_si256(_mm256_castsi128_si256(two(entries, symbols + 2)), two(entries, symbols + 6), 1);
    __m256 af = _mm256_castsi256_ps(a), bf = _mm256_castsi256_ps(b);
    *slots = _mm256_castps_si256(_mm256_shuffle_ps(af, bf, _MM_SHUFFLE(2, 0, 2, 0)));
    *inverse = _mm256_shuffle_ps(af, bf, _MM_SHUFFLE(3, 1, 3, 1));
}

/* Stores the low halves of the states that must shrink side by side, in lane order, below *at, and zeros below those:
 * the scratch has room for a word a symbol, hence for eight more. */
TARGET_AVX2 INLINE __m256i shed(__m256i x, __m256i f, uint8_t **at)
{
    __m256 keep = _mm256_castsi256_ps(_mm256_cmpgt_epi32(f, _mm256_srli_epi32(x, 20)));
    unsigned kept = (unsigned)_mm256_movemask_ps(keep);
    __m256i low = _mm256_blend_epi16(x, _mm256_setzero_si256(), 0xaa);
    __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
    words = _mm_shuffle_epi8(words, _mm_load_si128((const __m128i *)(const void *)compress_others[kept]));
    _mm_storeu_si128((__m128i *)(void *)(*at - 16), words);
    *at -= 16 - 2 * __builtin_popcount(kept);
    __m256 less = _mm256_castsi256_ps(_mm256_srli_epi32(x, 16));
    return _mm256_castps_si256(_mm256_blendv_ps(less, _mm256_castsi256_ps(x), keep));
}

/* x -> (x / f) 4096 + first + x mod f. There is no conversion of unsigned numbers, so the quotient is that of x / 2 and
 * f / 2 in floats: the true one, below 2^20, or one less. With f = 1 it is 2 (x >> 1) exactly. Otherwise the inverse is
 * shortened by 2^-22 of itself, more than the three roundings of at most 2^-24 can add; they and it take away at most 7
 * 2^-24 2^20 < 0.44, and the bit that x >> 1 loses at most 1 / f <= 0.5. */
TARGET_AVX2 INLINE __m256i push(__m256i x, __m256i f, __m256i first, __m256 inverse)
{
    __m256 half = _mm256_cvtepi32_ps(_mm256_srli_epi32(x, 1));
    __m256i q = _mm256_cvttps_epi32(_mm256_mul_ps(half, inverse));
    __m256i rest = _mm256_sub_epi32(x, _mm256_mullo_epi32(q, f)), right = _mm256_cmpgt_epi32(f, rest);
    __m256i next = _mm256_andnot_si256(right, _mm256_sub_epi32(_mm256_set1_epi32(PROB_SUM), f));
    x = _mm256_add_epi32(_mm256_slli_epi32(q, PROB_BITS), first);
    return _mm256_add_epi32(x, _mm256_add_epi32(rest, next));
}

TARGET_AVX2 INLINE uint8_t *encode_groups(const entry *entries, const uint8_t *symbols, size_t groups, uint32_t *state,
                                          size_t vectors, uint8_t *at)
{
    __m256i x[VECTORS];
    for (size_t v = 0; v < vectors; v++)
        x[v] = _mm256_loadu_si256((const __m256i *)(const void *)(state + 8 * v));
    for (size_t g = groups; g-- > 0;)
        for (size_t v = vectors; v-- > 0;) {
            __m256i slots;
            __m256 inverse;
            look_up_entries(entries, symbols + 8 * (vectors * g + v), &slots, &inverse);
            __m256i f = _mm256_srli_epi32(slots, PROB_BITS);
            __m256i first = _mm256_and_si256(slots, _mm256_set1_epi32(PROB_SUM - 1));
            x[v] = push(shed(x[v], f, &at), f, first, inverse);
        }
    for (size_t v = 0; v < vectors; v++)
        _mm256_storeu_si256((__m256i *)(void *)(state + 8 * v), x[v]);
    return at;
}

TARGET_AVX2 uint8_t *rans_encode_groups_avx2(const rans_encode_table *e, const uint8_t *symbols, size_t groups,
                                             uint32_t *state, size_t lanes, uint8_t *at)
{
    entry entries[256];
    make_entries(e, entries);
    switch (lanes) { /* the number of vectors as a constant */
    case 64: return encode_groups(entries, symbols, groups, state, 8, at);
    case 32: return encode_groups(entries, symbols, groups, state, 4, at);
    default: return encode_groups(entries, symbols, groups, state, 2, at);
    }
}

/* The states of 8 lanes after table entries e: words are handed to those that need one in lane order. */
TARGET_AVX2 INLINE __m256i pull(__m256i x, __m256i e, const uint8_t **at)
{
    const __m256i low12 = _mm256_set1_epi32(PROB_SUM - 1);
    __m256i f = _mm256_and_si256(_mm256_srli_epi32(e, 8), low12);
    x = _mm256_add_epi32(_mm256_mullo_epi32(f, _mm256_srli_epi32(x, PROB_BITS)), _mm256_srli_epi32(e, 20));
    __m256i more = _mm256_cmpeq_epi32(_mm256_srli_epi32(x, 16), _mm256_setzero_si256());
    unsigned set = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(more));
    __m128i words = _mm_loadu_si128((const __m128i *)(const void *)*at);
    words = _mm_shuffle_epi8(words, _mm_load_si128((const __m128i *)(const void *)expand[set]));
    *at += 2 * (size_t)__builtin_popcount(set);
    x = _mm256_sllv_epi32(x, _mm256_and_si256(more, _mm256_set1_epi32(16)));
    return _mm256_or_si256(x, _mm256_cvtepu16_epi32(words));
}

TARGET_AVX2 INLINE void decode_sixteen(const uint32_t *table, __m256i *x, uint8_t *out, const uint8_t **at)
{
    const __m256i low12 = _mm256_set1_epi32(PROB_SUM - 1);
    const __m256i bytes = _mm256_set1_epi32(0x0c080400), order = _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5);
    __m256i e0 = look_up_eight(table, _mm256_and_si256(x[0], low12)),
            e1 = look_up_eight(table, _mm256_and_si256(x[1], low12));
    __m256i symbols = _mm256_unpacklo_epi32(_mm256_shuffle_epi8(e0, bytes), _mm256_shuffle_epi8(e1, bytes));
    symbols = _mm256_permutevar8x32_epi32(symbols, order);
    _mm_storeu_si128((__m128i *)(void *)out, _mm256_castsi256_si128(symbols));
    x[0] = pull(x[0], e0, at);
    x[1] = pull(x[1], e1, at);
}

TARGET_AVX2 INLINE size_t decode_groups(rans_decoder *d, uint8_t *out, size_t n, size_t vectors)
{
    const uint8_t *at = d->at;
    __m256i x[VECTORS];
    size_t done = 0, lanes = 8 * vectors;
    for (size_t v = 0; v < vectors; v++)
        x[v] = _mm256_loadu_si256((const __m256i *)(const void *)(d->state + 8 * v));
    for (; n - done >= lanes && (size_t)(d->end - at) >= 2 * lanes; done += lanes)
        for (size_t v = 0; v < vectors; v += 2)
            decode_sixteen(rans_table(d), x + v, out + done + 8 * v, &at);
    for (size_t v = 0; v < vectors; v++)
        _mm256_storeu_si256((__m256i *)(void *)(d->state + 8 * v), x[v]);
    d->at = at;
    return done;
}

TARGET_AVX2 size_t rans_decode_groups_avx2(rans_decoder *d, uint8_t *out, size_t n)
{
    switch (d->lanes) {
    case 64: return decode_groups(d, out, n, 8);
    case 32: return decode_groups(d, out, n, 4);
    default: return decode_groups(d, out, n, 2);
    }
}
#else
typedef int rans_avx2_is_empty_here;
#endif
