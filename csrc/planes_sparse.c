/* Zeros left out and put in again. What is kept stays in order. */
#include "planes.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Branch-free: which elements are zero is as good as random. */
INLINE size_t leave_out_body(const uint8_t *elements, size_t n, unsigned bytes, uint8_t *kept)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t u = load_element(elements + i * bytes, bytes);
        store_element(kept + count * bytes, u, bytes);
        count += u != 0;
    }
    return count;
}

INLINE void put_in_body(const uint8_t *kept, const uint8_t *symbols, size_t n, unsigned bytes, uint8_t *elements)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t there = symbols[i] != 0;
        store_element(elements + i * bytes, load_element(kept + count * bytes, bytes) & (0 - there), bytes);
        count += there;
    }
}

static size_t leave_out_scalar(const uint8_t *elements, size_t n, unsigned bytes, uint8_t *kept)
{
    switch (bytes) {
    case 1: return leave_out_body(elements, n, 1, kept);
    case 2: return leave_out_body(elements, n, 2, kept);
    case 4: return leave_out_body(elements, n, 4, kept);
    default: return leave_out_body(elements, n, 8, kept);
    }
}

static void put_in_scalar(const uint8_t *kept, const uint8_t *symbols, size_t n, unsigned bytes, uint8_t *elements)
{
    switch (bytes) {
    case 2: put_in_body(kept, symbols, n, 2, elements); break;
    case 4: put_in_body(kept, symbols, n, 4, elements); break;
    default: put_in_body(kept, symbols, n, 8, elements);
    }
}

#if defined(__x86_64__)
/* Whole vectors; the rest is for the scalar loop. Vectors are stored whole: SPARE bytes behind. */
#define LEAVE_OUT(bits, lanes)                                        \
    for (; done + lanes <= n; done += lanes) {                        \
        __m512i v = _mm512_loadu_si512(elements + done * (bits / 8)); \
        __mmask##lanes there = _mm512_test_epi##bits##_mask(v, v);    \
        v = _mm512_maskz_compress_epi##bits(there, v);                \
        _mm512_storeu_si512(kept + count * (bits / 8), v);            \
        count += (unsigned)__builtin_popcountll(there);               \
    }

TARGET_AVX512 static size_t leave_out_avx512(const uint8_t *elements, size_t n, unsigned bytes, uint8_t *kept)
{
    size_t done = 0, count = 0;
    switch (bytes) {
    case 1: LEAVE_OUT(8, 64) break;
    case 2: LEAVE_OUT(16, 32) break;
    case 4: LEAVE_OUT(32, 16) break;
    default: LEAVE_OUT(64, 8)
    }
    return count + leave_out_scalar(elements + done * bytes, n - done, bytes, kept + count * bytes);
}

/* Which of the next 32, 16 or 8 symbols are not zero. */
TARGET_AVX512 INLINE __mmask32 there_16(const uint8_t *symbols)
{
    __m256i s = _mm256_loadu_si256((const __m256i *)(const void *)symbols);
    return _mm256_test_epi8_mask(s, s);
}
TARGET_AVX512 INLINE __mmask16 there_32(const uint8_t *symbols)
{
    __m128i s = _mm_loadu_si128((const __m128i *)(const void *)symbols);
    return _mm_test_epi8_mask(s, s);
}
TARGET_AVX512 INLINE __mmask8 there_64(const uint8_t *symbols)
{
    __m128i s = _mm_loadl_epi64((const __m128i *)(const void *)symbols);
    return (__mmask8)_mm_test_epi8_mask(s, s);
}

#define PUT_IN(bits, lanes)                                                                         \
    for (; done + lanes <= n; done += lanes) {                                                      \
        __mmask##lanes there = there_##bits(symbols + done);                                        \
        __m512i v = _mm512_loadu_si512(kept + count * (bits / 8));                                  \
        _mm512_storeu_si512(elements + done * (bits / 8), _mm512_maskz_expand_epi##bits(there, v)); \
        count += (unsigned)__builtin_popcountll(there);                                             \
    }

TARGET_AVX512 static void put_in_avx512(const uint8_t *kept, const uint8_t *symbols, size_t n, unsigned bytes,
                                        uint8_t *elements)
{
    size_t done = 0, count = 0;
    switch (bytes) {
    case 2: PUT_IN(16, 32) break;
    case 4: PUT_IN(32, 16) break;
    default: PUT_IN(64, 8)
    }
    put_in_scalar(kept + count * bytes, symbols + done, n - done, bytes, elements + done * bytes);
}
#else
#define leave_out_avx512 leave_out_scalar
#define put_in_avx512 put_in_scalar
#endif

/* The elements that are not +0 (or symbols that are not 0), side by side; returns how many. Up to SPARE bytes behind
 * them are overwritten. */
size_t leave_out_zeros(const uint8_t *elements, size_t n, unsigned bytes, uint32_t isa, uint8_t *kept)
{
    return isa >= SZD_ISA_AVX512 ? leave_out_avx512(elements, n, bytes, kept)
                                 : leave_out_scalar(elements, n, bytes, kept);
}

/* The inverse: zero where the symbol is. SPARE bytes behind what was kept are readable. */
void put_in_zeros(const uint8_t *kept, const uint8_t *symbols, size_t n, unsigned bytes, uint32_t isa,
                  uint8_t *elements)
{
    if (isa >= SZD_ISA_AVX512)
        put_in_avx512(kept, symbols, n, bytes, elements);
    else
        put_in_scalar(kept, symbols, n, bytes, elements);
}
