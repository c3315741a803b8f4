/* rANS with 16 lanes in a vector. Bit-identical to the scalar loops in rans.c. */
#include "rans.h"
#if defined(__x86_64__)
#include <immintrin.h>

#define VECTORS (1 << RANS_LANES_LOG2) / 16

/* Stores the low halves of the states that must shrink side by side, in lane order, below *at. */
TARGET_AVX512 INLINE __m512i shed(__m512i x, __m512i f, uint8_t **at)
{
    __mmask16 emit = _mm512_cmpge_epu32_mask(x, _mm512_slli_epi32(f, 20));
    unsigned words = (unsigned)__builtin_popcount(emit);
    *at -= 2 * words;
    __m256i low = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(emit, x));
    _mm256_mask_storeu_epi16(*at, (__mmask16)((1u << words) - 1), low);
    return _mm512_mask_srli_epi32(x, emit, x, 16);
}

/* x -> (x / f) 4096 + first + x mod f. The quotient is below 2^20; in floats, shortened by 2^-21, it is the true one or
 * one less: x loses at most 2^-24 of itself in the conversion, the reciprocal (one Newton step) and the product less
 * than 2^-22. */
TARGET_AVX512 INLINE __m512i push(__m512i x, __m512i f, __m512i first)
{
    __m512 ff = _mm512_cvtepu32_ps(f), guess = _mm512_rcp14_ps(ff);
    __m512 inverse = _mm512_mul_ps(guess, _mm512_fnmadd_ps(ff, guess, _mm512_set1_ps(2.0f - 0x1p-21f)));
    __m512i q = _mm512_cvttps_epu32(_mm512_mul_ps(_mm512_cvtepu32_ps(x), inverse));
    __m512i rest = _mm512_sub_epi32(x, _mm512_mullo_epi32(q, f));
    __mmask16 under = _mm512_cmpge_epu32_mask(rest, f);
    x = _mm512_add_epi32(_mm512_add_epi32(_mm512_slli_epi32(q, PROB_BITS), first), rest);
    return _mm512_mask_add_epi32(x, under, x, _mm512_sub_epi32(_mm512_set1_epi32(PROB_SUM), f));
}

typedef struct narrow_table {
    __m512i lo, f0, f1, first0, first1;
} narrow_table;

/* 32 symbols, looked up in registers. */
TARGET_AVX512 INLINE void encode_narrow(const narrow_table *t, const uint8_t *symbols, __m512i *x, uint8_t **at)
{
    __m512i s = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)symbols));
    s = _mm512_sub_epi16(s, t->lo);
    __m512i f = _mm512_permutex2var_epi16(t->f0, s, t->f1), first = _mm512_permutex2var_epi16(t->first0, s, t->first1);
    __m512i f_up = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(f, 1)),
            f_low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(f));
    x[1] = push(shed(x[1], f_up, at), f_up, _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(first, 1)));
    x[0] = push(shed(x[0], f_low, at), f_low, _mm512_cvtepu16_epi32(_mm512_castsi512_si256(first)));
}

/* 16 symbols, where there are no more lanes. */
TARGET_AVX512 INLINE void encode_narrow_half(const narrow_table *t, const uint8_t *symbols, __m512i *x, uint8_t **at)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)symbols);
    __m512i s = _mm512_sub_epi16(_mm512_cvtepu8_epi16(_mm256_castsi128_si256(bytes)), t->lo);
    __m512i f = _mm512_permutex2var_epi16(t->f0, s, t->f1), first = _mm512_permutex2var_epi16(t->first0, s, t->first1);
    __m512i wide = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(f));
    *x = push(shed(*x, wide, at), wide, _mm512_cvtepu16_epi32(_mm512_castsi512_si256(first)));
}

/* 16 symbols of any alphabet. */
TARGET_AVX512 INLINE void encode_wide(const rans_encode_table *e, const uint8_t *symbols, __m512i *x, uint8_t **at)
{
    __m512i s = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)symbols));
    __m512i slots = _mm512_i32gather_epi32(s, e->slots, 4), f = _mm512_srli_epi32(slots, PROB_BITS);
    *x = push(shed(*x, f, at), f, _mm512_and_si512(slots, _mm512_set1_epi32(PROB_SUM - 1)));
}

TARGET_AVX512 INLINE uint8_t *encode_groups(const rans_encode_table *e, const uint8_t *symbols, size_t groups,
                                            uint32_t *state, size_t vectors, uint8_t *at)
{
    __m512i x[VECTORS];
    narrow_table t = {_mm512_set1_epi16(e->lo), _mm512_loadu_si512(e->f), _mm512_loadu_si512(e->f + 32),
                      _mm512_loadu_si512(e->first), _mm512_loadu_si512(e->first + 32)};
    for (size_t v = 0; v < vectors; v++)
        x[v] = _mm512_loadu_si512(state + 16 * v);
    for (size_t g = groups; g-- > 0;) {
        const uint8_t *group = symbols + 16 * vectors * g;
        if (e->narrow && vectors == 1)
            encode_narrow_half(&t, group, x, &at);
        else if (e->narrow)
            for (size_t v = vectors; v > 0; v -= 2)
                encode_narrow(&t, group + 16 * (v - 2), x + v - 2, &at);
        else
            for (size_t v = vectors; v-- > 0;)
                encode_wide(e, group + 16 * v, x + v, &at);
    }
    for (size_t v = 0; v < vectors; v++)
        _mm512_storeu_si512(state + 16 * v, x[v]);
    return at;
}

TARGET_AVX512 uint8_t *rans_encode_groups_avx512(const rans_encode_table *e, const uint8_t *symbols, size_t groups,
                                                 uint32_t *state, size_t lanes, uint8_t *at)
{
    switch (lanes) { /* the number of vectors as a constant: they stay in registers */
    case 64: return encode_groups(e, symbols, groups, state, 4, at);
    case 32: return encode_groups(e, symbols, groups, state, 2, at);
    default: return encode_groups(e, symbols, groups, state, 1, at);
    }
}

TARGET_AVX512 INLINE __m128i four(const uint32_t *table, const uint32_t *slots)
{
    __m128i a = _mm_cvtsi32_si128((int)table[slots[0]]), b = _mm_cvtsi32_si128((int)table[slots[1]]);
    __m128i c = _mm_cvtsi32_si128((int)table[slots[2]]), d = _mm_cvtsi32_si128((int)table[slots[3]]);
    return _mm_unpacklo_epi64(_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
}

/* table[slot] for 16 lanes. Sixteen loads, joined: on Zen 4 a third faster than the gather instruction, and no slower
 * where that is fast. */
TARGET_AVX512 INLINE __m512i look_up(const uint32_t *table, __m512i slot)
{
    uint32_t slots[16] __attribute__((aligned(64)));
    _mm512_store_si512(slots, slot);
    __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(four(table, slots)), four(table, slots + 4), 1);
    __m256i up = _mm256_inserti128_si256(_mm256_castsi128_si256(four(table, slots + 8)), four(table, slots + 12), 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), up, 1);
}

/* 16 lanes: words are handed to those that need one in lane order. */
TARGET_AVX512 INLINE __m512i decode_sixteen(const uint32_t *table, __m512i x, uint8_t *out, const uint8_t **at)
{
    const __m512i low12 = _mm512_set1_epi32(PROB_SUM - 1);
    __m512i e = look_up(table, _mm512_and_si512(x, low12));
    _mm_storeu_si128((__m128i *)(void *)out, _mm512_cvtepi32_epi8(_mm512_srli_epi32(e, 24)));
    __m512i f = _mm512_and_si512(_mm512_srli_epi32(e, 12), low12);
    x = _mm512_add_epi32(_mm512_mullo_epi32(f, _mm512_srli_epi32(x, PROB_BITS)), _mm512_and_si512(e, low12));
    __mmask16 more = _mm512_cmplt_epu32_mask(x, _mm512_set1_epi32((int)RANS_STATE_MIN));
    __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)*at));
    words = _mm512_maskz_expand_epi32(more, words);
    *at += 2 * (size_t)__builtin_popcount(more);
    return _mm512_mask_or_epi32(x, more, _mm512_slli_epi32(x, 16), words);
}

TARGET_AVX512 INLINE size_t decode_groups(rans_decoder *d, uint8_t *out, size_t n, size_t vectors)
{
    const uint8_t *at = d->at;
    __m512i x[VECTORS];
    size_t done = 0, lanes = 16 * vectors;
    for (size_t v = 0; v < vectors; v++)
        x[v] = _mm512_loadu_si512(d->state + 16 * v);
    for (; n - done >= lanes && (size_t)(d->end - at) >= 2 * lanes; done += lanes)
        for (size_t v = 0; v < vectors; v++)
            x[v] = decode_sixteen(d->table, x[v], out + done + 16 * v, &at);
    for (size_t v = 0; v < vectors; v++)
        _mm512_storeu_si512(d->state + 16 * v, x[v]);
    d->at = at;
    return done;
}

TARGET_AVX512 size_t rans_decode_groups_avx512(rans_decoder *d, uint8_t *out, size_t n)
{
    switch (d->lanes) {
    case 64: return decode_groups(d, out, n, 4);
    case 32: return decode_groups(d, out, n, 2);
    default: return decode_groups(d, out, n, 1);
    }
}
#else
typedef int rans_avx512_is_empty_here;
#endif
