/* join_scalar of planes_kernels.c with vectors of 512 bits: what the compiler makes of that loop takes half as long
 * again. */
#include "planes.h"
#if defined(__x86_64__)
#include <immintrin.h>

TARGET_AVX512 INLINE __m512i widen_16(const uint8_t *p)
{
    return _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
TARGET_AVX512 INLINE __m512i widen_32(const uint8_t *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}
TARGET_AVX512 INLINE __m512i widen_64(const uint8_t *p)
{
    return _mm512_cvtepu8_epi64(_mm_loadl_epi64((const __m128i *)(const void *)p));
}

/* Where the first one's bits are set, the second's, elsewhere the third's. */
#define CHOOSE 0xca

/* t is shifted to its place above the low bits. What is left of the modulo of its sum, bit 2^T, falls on the sign,
 * which comes last. */
#define JOIN(bits)                                                                                                   \
    TARGET_AVX512 INLINE void join_##bits(const split_form *f, const uint8_t *symbols, const uint8_t *const *in,     \
                                          unsigned slices, unsigned zeros, uint8_t *elements)                        \
    {                                                                                                                \
        const __m512i low = _mm512_set1_epi##bits((int##bits##_t)(((uint64_t)1 << f->low) - 1)),                     \
                      sign = _mm512_set1_epi##bits((int##bits##_t)((uint64_t)1 << (bits - 1))),                      \
                      base = _mm512_set1_epi##bits((int##bits##_t)(f->base - f->is_sparse)),                         \
                      escape = _mm512_set1_epi##bits(f->is_sparse);                                                  \
        const __m128i to_top = _mm_cvtsi32_si128((int)f->low), to_place = _mm_cvtsi32_si128((int)zeros),             \
                      to_sign = _mm_cvtsi32_si128((int)(bits - 1 - f->low));                                         \
        for (size_t i = 0; i < SEGMENT; i += 512 / bits) {                                                           \
            __m512i s = widen_##bits(symbols + i), v = _mm512_setzero_si512();                                       \
            for (unsigned k = 0; k < slices; k++)                                                                    \
                v = _mm512_or_si512(v,                                                                               \
                                    _mm512_sll_epi##bits(widen_##bits(in[k] + i), _mm_cvtsi32_si128((int)(8 * k)))); \
            v = _mm512_sll_epi##bits(v, to_place);                                                                   \
            __m512i t = _mm512_maskz_sll_epi##bits(_mm512_cmpgt_epi##bits##_mask(s, escape),                         \
                                                   _mm512_add_epi##bits(s, base), to_top);                           \
            t = _mm512_ternarylogic_epi32(low, v, t, CHOOSE);                                                        \
            t = _mm512_ternarylogic_epi32(sign, _mm512_sll_epi##bits(v, to_sign), t, CHOOSE);                        \
            _mm512_storeu_si512(elements + i * (bits / 8), t);                                                       \
        }                                                                                                            \
    }
JOIN(16)
JOIN(32)
JOIN(64)

/* The number of slices as a constant. */
#define WITH(bits, count) \
    case count: join_##bits(f, symbols, in, count, zeros, elements); break;

TARGET_AVX512 void split_join_avx512(const split_form *f, const uint8_t *symbols, const uint8_t *const *in,
                                     unsigned slices, unsigned zeros, uint8_t *elements)
{
    if (f->bytes == 2)
        switch (slices) {
            WITH(16, 0) WITH(16, 1) WITH(16, 2)
        }
    else if (f->bytes == 4)
        switch (slices) {
            WITH(32, 0) WITH(32, 1) WITH(32, 2) WITH(32, 3) WITH(32, 4)
        }
    else
        switch (slices) {
            WITH(64, 0) WITH(64, 1) WITH(64, 2) WITH(64, 3) WITH(64, 4) WITH(64, 5) WITH(64, 6) WITH(64, 7) WITH(64, 8)
        }
}
#else
typedef int planes_avx512_is_empty_here;
#endif
