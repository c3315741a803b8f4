/* rANS with 16 lanes in a vector. Bit-identical to the scalar loops in rans.c. */
#include "rans_lookup.h"
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
    __m256i shift, range;
    __m512i f0, f1, first0, first1;
} narrow_table;

/* 32 symbols, looked up in registers. */
TARGET_AVX512 INLINE void encode_narrow(const narrow_table *t, const uint8_t *symbols, __m512i *x, uint8_t **at)
{
    __m256i d = _mm256_sub_epi8(_mm256_loadu_si256((const __m256i *)(const void *)symbols), t->shift);
    __m512i s = _mm512_cvtepu8_epi16(_mm256_maskz_mov_epi8(_mm256_cmple_epu8_mask(d, t->range), d));
    __m512i f = _mm512_permutex2var_epi16(t->f0, s, t->f1), first = _mm512_permutex2var_epi16(t->first0, s, t->first1);
    __m512i f_up = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(f, 1)),
            f_low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(f));
    x[1] = push(shed(x[1], f_up, at), f_up, _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(first, 1)));
    x[0] = push(shed(x[0], f_low, at), f_low, _mm512_cvtepu16_epi32(_mm512_castsi512_si256(first)));
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
    narrow_table t = {_mm256_set1_epi8((char)e->narrow_map.shift),
                      _mm256_set1_epi8((char)e->narrow_map.range),
                      _mm512_loadu_si512(e->f),
                      _mm512_loadu_si512(e->f + 32),
                      _mm512_loadu_si512(e->first),
                      _mm512_loadu_si512(e->first + 32)};
    for (size_t v = 0; v < vectors; v++)
        x[v] = _mm512_loadu_si512(state + 16 * v);
    for (size_t g = groups; g-- > 0;) {
        const uint8_t *group = symbols + 16 * vectors * g;
        if (e->narrow)
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
    return lanes == 64 ? encode_groups(e, symbols, groups, state, 4, at) /* the vectors stay in registers */
                       : encode_groups(e, symbols, groups, state, 2, at);
}

/* table[slot] for 16 lanes. */
TARGET_AVX512 INLINE __m512i look_up(const uint32_t *table, __m512i slot)
{
    __m256i low = look_up_eight(table, _mm512_castsi512_si256(slot)),
            up = look_up_eight(table, _mm512_extracti64x4_epi64(slot, 1));
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), up, 1);
}

/* The states of 16 lanes after table entries e: words are handed to those that need one in lane order. */
TARGET_AVX512 INLINE __m512i pull(__m512i x, __m512i e, const uint8_t **at)
{
    __m512i f = _mm512_and_si512(_mm512_srli_epi32(e, 8), _mm512_set1_epi32(PROB_SUM - 1));
    x = _mm512_add_epi32(_mm512_mullo_epi32(f, _mm512_srli_epi32(x, PROB_BITS)), _mm512_srli_epi32(e, 20));
    __mmask16 more = _mm512_cmplt_epu32_mask(x, _mm512_set1_epi32(RANS_STATE_MIN));
    __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)*at));
    *at += 2 * (size_t)__builtin_popcount(more);
    x = _mm512_mask_slli_epi32(x, more, x, 16);
    return _mm512_or_si512(x, _mm512_maskz_expand_epi32(more, words));
}

TARGET_AVX512 INLINE size_t decode_groups(rans_decoder *d, uint8_t *out, size_t n, size_t vectors)
{
    const uint8_t *at = d->at;
    __m512i x[VECTORS];
    size_t done = 0, lanes = 16 * vectors;
    for (size_t v = 0; v < vectors; v++)
        x[v] = _mm512_loadu_si512(d->state + 16 * v);
    for (; n - done >= lanes && (size_t)(d->end - at) >= 2 * lanes; done += lanes)
        for (size_t v = 0; v < vectors; v++) {
            __m512i e = look_up(rans_table(d), _mm512_and_si512(x[v], _mm512_set1_epi32(PROB_SUM - 1)));
            _mm_storeu_si128((__m128i *)(void *)(out + done + 16 * v), _mm512_cvtepi32_epi8(e));
            x[v] = pull(x[v], e, &at);
        }
    for (size_t v = 0; v < vectors; v++)
        _mm512_storeu_si512(d->state + 16 * v, x[v]);
    d->at = at;
    return done;
}

TARGET_AVX512 size_t rans_decode_groups_avx512(rans_decoder *d, uint8_t *out, size_t n)
{
    return d->lanes == 64 ? decode_groups(d, out, n, 4) : decode_groups(d, out, n, 2);
}

#else
typedef int rans_avx512_is_empty_here;
#endif
