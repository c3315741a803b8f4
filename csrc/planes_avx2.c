/* Loops of planes_kernels.c over elements of 16 and 32 bits with vectors of 256 bits: what compilers make of them works
 * on twice as wide elements, and takes up to twice as long. */
#include "planes.h"
#if defined(__x86_64__)
#include <immintrin.h>

TARGET_AVX2 INLINE __m256i load_256(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }
TARGET_AVX2 INLINE void store_256(uint8_t *p, __m256i v) { _mm256_storeu_si256((__m256i *)(void *)p, v); }
TARGET_AVX2 INLINE __m256i widen_16(const uint8_t *p)
{
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
}
TARGET_AVX2 INLINE __m256i widen_32(const uint8_t *p)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
}

/* The lowest bytes of the elements of so many vectors that they fill one. */
TARGET_AVX2 INLINE __m256i narrow_16(const __m256i v[2])
{
    const __m256i byte = _mm256_set1_epi16(255);
    __m256i bytes = _mm256_packus_epi16(_mm256_and_si256(v[0], byte), _mm256_and_si256(v[1], byte));
    return _mm256_permute4x64_epi64(bytes, 0xd8);
}
TARGET_AVX2 INLINE __m256i narrow_32(const __m256i v[4])
{
    const __m256i byte = _mm256_set1_epi32(255), order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i a = _mm256_packus_epi32(_mm256_and_si256(v[0], byte), _mm256_and_si256(v[1], byte));
    __m256i b = _mm256_packus_epi32(_mm256_and_si256(v[2], byte), _mm256_and_si256(v[3], byte));
    return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(a, b), order);
}

/* Where the first one's bits are set, the second's, elsewhere the third's. */
TARGET_AVX2 INLINE __m256i choose(__m256i which, __m256i a, __m256i b)
{
    return _mm256_or_si256(_mm256_and_si256(which, a), _mm256_andnot_si256(which, b));
}

/* In `join` t is shifted to its place above the low bits: what is left of the modulo of its sum falls on the sign,
 * which comes last. */
#define LOOPS(bits)                                                                                                   \
    TARGET_AVX2 bool split_symbols_##bits##_avx2(const split_form *f, const uint8_t *elements, uint8_t *symbols)      \
    {                                                                                                                 \
        const __m256i magnitude = _mm256_set1_epi##bits((int##bits##_t)(((uint64_t)1 << (bits - 1)) - 1)),            \
                      base = _mm256_set1_epi##bits((int##bits##_t)f->base),                                           \
                      last = _mm256_set1_epi##bits((int##bits##_t)(f->span - 1)),                                     \
                      escape = _mm256_set1_epi##bits(f->is_sparse), one = _mm256_set1_epi##bits(1),                   \
                      any = _mm256_set1_epi8(f->span ? -1 : 0), zero = _mm256_setzero_si256();                        \
        const __m128i to_bottom = _mm_cvtsi32_si128((int)f->low);                                                     \
        __m256i escaped = zero;                                                                                       \
        for (size_t i = 0; i < SEGMENT; i += 32) {                                                                    \
            __m256i v[bits / 8];                                                                                      \
            for (unsigned k = 0; k < bits / 8; k++) {                                                                 \
                __m256i u = load_256(elements + i * (bits / 8) + 32 * k);                                             \
                __m256i t = _mm256_srl_epi##bits(_mm256_and_si256(u, magnitude), to_bottom);                          \
                __m256i d = _mm256_sub_epi##bits(t, base), before = _mm256_sub_epi##bits(d, one);                     \
                __m256i inside = _mm256_cmpeq_epi##bits(_mm256_min_epu##bits(before, last), before);                  \
                inside = _mm256_and_si256(inside, any);                                                               \
                __m256i other = _mm256_andnot_si256(_mm256_cmpeq_epi##bits(u, zero), escape);                         \
                v[k] = choose(inside, _mm256_add_epi##bits(d, escape), other);                                        \
                escaped = _mm256_or_si256(escaped, _mm256_andnot_si256(inside, t));                                   \
            }                                                                                                         \
            store_256(symbols + i, narrow_##bits(v));                                                                 \
        }                                                                                                             \
        return !_mm256_testz_si256(escaped, escaped);                                                                 \
    }                                                                                                                 \
                                                                                                                      \
    TARGET_AVX2 INLINE void cut_##bits(const split_form *f, const uint8_t *elements, unsigned zeros, unsigned slices, \
                                       uint8_t(*out)[SEGMENT])                                                        \
    {                                                                                                                 \
        const __m256i mask = _mm256_set1_epi##bits((int##bits##_t)(((uint64_t)1 << f->low) - 1));                     \
        const __m128i to_sign = _mm_cvtsi32_si128((int)f->low), to_bottom = _mm_cvtsi32_si128((int)zeros);            \
        for (size_t i = 0; i < SEGMENT; i += 32) {                                                                    \
            __m256i v[bits / 8];                                                                                      \
            for (unsigned k = 0; k < bits / 8; k++) {                                                                 \
                __m256i u = load_256(elements + i * (bits / 8) + 32 * k);                                             \
                __m256i sign = _mm256_sll_epi##bits(_mm256_srli_epi##bits(u, bits - 1), to_sign);                     \
                v[k] = _mm256_srl_epi##bits(_mm256_or_si256(_mm256_and_si256(u, mask), sign), to_bottom);             \
            }                                                                                                         \
            for (unsigned slice = 0; slice < slices; slice++) {                                                       \
                store_256(out[slice] + i, narrow_##bits(v));                                                          \
                for (unsigned k = 0; k < bits / 8; k++)                                                               \
                    v[k] = _mm256_srli_epi##bits(v[k], 8);                                                            \
            }                                                                                                         \
        }                                                                                                             \
    }                                                                                                                 \
                                                                                                                      \
    TARGET_AVX2 INLINE void join_##bits(const split_form *f, const uint8_t *symbols, const uint8_t *const *in,        \
                                        unsigned slices, unsigned zeros, uint8_t *elements)                           \
    {                                                                                                                 \
        const __m256i low = _mm256_set1_epi##bits((int##bits##_t)(((uint64_t)1 << f->low) - 1)),                      \
                      sign = _mm256_set1_epi##bits((int##bits##_t)((uint64_t)1 << (bits - 1))),                       \
                      base = _mm256_set1_epi##bits((int##bits##_t)(f->base - f->is_sparse)),                          \
                      escape = _mm256_set1_epi##bits(f->is_sparse);                                                   \
        const __m128i to_top = _mm_cvtsi32_si128((int)f->low), to_place = _mm_cvtsi32_si128((int)zeros),              \
                      to_sign = _mm_cvtsi32_si128((int)(bits - 1 - f->low));                                          \
        for (size_t i = 0; i < SEGMENT; i += 256 / bits) {                                                            \
            __m256i s = widen_##bits(symbols + i), v = _mm256_setzero_si256();                                        \
            for (unsigned k = 0; k < slices; k++)                                                                     \
                v = _mm256_or_si256(v, _mm256_slli_epi##bits(widen_##bits(in[k] + i), (int)(8 * k)));                 \
            v = _mm256_sll_epi##bits(v, to_place);                                                                    \
            __m256i t = _mm256_sll_epi##bits(_mm256_add_epi##bits(s, base), to_top);                                  \
            t = _mm256_and_si256(t, _mm256_cmpgt_epi##bits(s, escape));                                               \
            t = choose(sign, _mm256_sll_epi##bits(v, to_sign), choose(low, v, t));                                    \
            store_256(elements + i * (bits / 8), t);                                                                  \
        }                                                                                                             \
    }
LOOPS(16)
LOOPS(32)

/* The number of slices as a constant. */
TARGET_AVX2 void split_cut_16_avx2(const split_form *f, const uint8_t *elements, unsigned zeros, unsigned slices,
                                   uint8_t (*out)[SEGMENT])
{
    switch (slices) {
    case 0: break;
    case 1: cut_16(f, elements, zeros, 1, out); break;
    default: cut_16(f, elements, zeros, 2, out);
    }
}

TARGET_AVX2 void split_cut_32_avx2(const split_form *f, const uint8_t *elements, unsigned zeros, unsigned slices,
                                   uint8_t (*out)[SEGMENT])
{
    switch (slices) {
    case 0: break;
    case 1: cut_32(f, elements, zeros, 1, out); break;
    case 2: cut_32(f, elements, zeros, 2, out); break;
    case 3: cut_32(f, elements, zeros, 3, out); break;
    default: cut_32(f, elements, zeros, 4, out);
    }
}

TARGET_AVX2 void split_join_16_avx2(const split_form *f, const uint8_t *symbols, const uint8_t *const *in,
                                    unsigned slices, unsigned zeros, uint8_t *elements)
{
    switch (slices) {
    case 0: join_16(f, symbols, in, 0, zeros, elements); break;
    case 1: join_16(f, symbols, in, 1, zeros, elements); break;
    default: join_16(f, symbols, in, 2, zeros, elements);
    }
}

TARGET_AVX2 void split_join_32_avx2(const split_form *f, const uint8_t *symbols, const uint8_t *const *in,
                                    unsigned slices, unsigned zeros, uint8_t *elements)
{
    switch (slices) {
    case 0: join_32(f, symbols, in, 0, zeros, elements); break;
    case 1: join_32(f, symbols, in, 1, zeros, elements); break;
    case 2: join_32(f, symbols, in, 2, zeros, elements); break;
    case 3: join_32(f, symbols, in, 3, zeros, elements); break;
    default: join_32(f, symbols, in, 4, zeros, elements);
    }
}
#else
typedef int planes_avx2_is_empty_here;
#endif
