/* Counting bytes: eight partial histograms, so that equal neighbours do not wait for each other's store; with vectors,
 * where few neighbouring values make up nearly all, by comparing with each of these. */
#include "internal.h"
#if defined(__x86_64__)
#include <immintrin.h>
#define COUNT_BY_VECTORS SZD_ISA_AVX2
#elif defined(__aarch64__)
#include <arm_neon.h>
#define COUNT_BY_VECTORS SZD_ISA_NEON
#endif

static void count_scalar(const uint8_t *symbols, size_t n, uint32_t counts[256])
{
    uint32_t part[8][256];
    memset(part, 0, sizeof part);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t v = load_u64(symbols + i);
        for (unsigned k = 0; k < 8; k++)
            part[k][v >> (8 * k) & 0xff]++;
    }
    for (; i < n; i++)
        part[0][symbols[i]]++;
    for (unsigned k = 0; k < 8; k++)
        for (unsigned s = 0; s < 256; s++)
            counts[s] += part[k][s];
}

#ifdef COUNT_BY_VECTORS
enum { GROUP = 8, MOST_GROUPS = 5, LEAST = 1024, SAMPLE = 256 };

/* Groups of GROUP neighbouring values, from *first on, that hold what a sample holds. */
static unsigned common_groups(const uint8_t *symbols, size_t n, uint8_t *first)
{
    size_t samples = n / 32 < SAMPLE ? n / 32 : SAMPLE, step = n / samples;
    unsigned low = 255, high = 0;
    for (size_t i = 0; i < samples; i++) {
        unsigned s = symbols[i * step];
        low = s < low ? s : low;
        high = s > high ? s : high;
    }
    unsigned groups = (high - low) / GROUP + 1, room = groups * GROUP - (high - low + 1);
    *first = (uint8_t)(low > room / 2 ? low - room / 2 : 0);
    return groups;
}

#if defined(__x86_64__)
enum { VECTOR = 32 };
TARGET_AVX2 INLINE __m256i load_32(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }

/* How often each of GROUP values occurs in at most 255 vectors: their counts stay below 256 in each byte. */
TARGET_AVX2 static void count_group(const uint8_t *symbols, size_t vectors, uint8_t first, uint32_t counts[256])
{
    __m256i value[GROUP], count[GROUP];
    for (unsigned k = 0; k < GROUP; k++) {
        value[k] = _mm256_set1_epi8((char)(first + k));
        count[k] = _mm256_setzero_si256();
    }
    for (size_t i = 0; i < vectors; i++) {
        __m256i v = load_32(symbols + 32 * i);
        for (unsigned k = 0; k < GROUP; k++)
            count[k] = _mm256_sub_epi8(count[k], _mm256_cmpeq_epi8(v, value[k]));
    }
    for (unsigned k = 0; k < GROUP && first + k < 256; k++) {
        uint64_t sums[4];
        _mm256_storeu_si256((__m256i *)(void *)sums, _mm256_sad_epu8(count[k], _mm256_setzero_si256()));
        counts[first + k] += (uint32_t)(sums[0] + sums[1] + sums[2] + sums[3]);
    }
}

/* The values outside [first, first + span], one by one. */
TARGET_AVX2 static void count_others(const uint8_t *symbols, size_t vectors, uint8_t first, uint8_t span,
                                     uint32_t counts[256])
{
    const __m256i low = _mm256_set1_epi8((char)first), most = _mm256_set1_epi8((char)span);
    for (size_t i = 0; i < vectors; i++) {
        __m256i d = _mm256_sub_epi8(load_32(symbols + 32 * i), low);
        uint32_t others = ~(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_max_epu8(d, most), most));
        for (; others; others &= others - 1)
            counts[symbols[32 * i + (unsigned)__builtin_ctz(others)]]++;
    }
}

#else
enum { VECTOR = 16 };

static void count_group(const uint8_t *symbols, size_t vectors, uint8_t first, uint32_t counts[256])
{
    uint8x16_t value[GROUP], count[GROUP];
    for (unsigned k = 0; k < GROUP; k++) {
        value[k] = vdupq_n_u8((uint8_t)(first + k));
        count[k] = vdupq_n_u8(0);
    }
    for (size_t i = 0; i < vectors; i++) {
        uint8x16_t v = vld1q_u8(symbols + 16 * i);
        for (unsigned k = 0; k < GROUP; k++)
            count[k] = vsubq_u8(count[k], vceqq_u8(v, value[k]));
    }
    for (unsigned k = 0; k < GROUP && first + k < 256; k++)
        counts[first + k] += vaddlvq_u8(count[k]);
}

static void count_others(const uint8_t *symbols, size_t vectors, uint8_t first, uint8_t span, uint32_t counts[256])
{
    const uint8x16_t low = vdupq_n_u8(first), most = vdupq_n_u8(span);
    for (size_t i = 0; i < vectors; i++) {
        uint8x16_t others = vcgtq_u8(vsubq_u8(vld1q_u8(symbols + 16 * i), low), most);
        if (vmaxvq_u8(others))
            for (size_t j = 16 * i; j < 16 * i + 16; j++)
                counts[symbols[j]] += (uint8_t)(symbols[j] - first) > span;
    }
}
#endif

TARGET_AVX2 static void count_by_vectors(const uint8_t *symbols, size_t n, uint8_t first, unsigned groups,
                                         uint32_t counts[256])
{
    enum { STEP = 255 };
    const unsigned most = 255u - first, span = groups * GROUP - 1 < most ? groups * GROUP - 1 : most;
    for (size_t left = n / VECTOR; left;) {
        size_t vectors = left < STEP ? left : STEP;
        for (unsigned k = 0; k <= span; k += GROUP)
            count_group(symbols, vectors, (uint8_t)(first + k), counts);
        count_others(symbols, vectors, first, (uint8_t)span, counts);
        symbols += VECTOR * vectors;
        left -= vectors;
    }
    for (size_t i = 0; i < n % VECTOR; i++)
        counts[symbols[i]]++;
}
#endif

void histogram_u8(const uint8_t *symbols, size_t n, uint32_t isa, uint32_t counts[256])
{
    memset(counts, 0, 256 * sizeof *counts);
#ifdef COUNT_BY_VECTORS
    uint8_t first = 0;
    unsigned groups = isa >= COUNT_BY_VECTORS && n >= LEAST ? common_groups(symbols, n, &first) : MOST_GROUPS + 1;
    if (groups <= MOST_GROUPS) {
        count_by_vectors(symbols, n, first, groups, counts);
        return;
    }
#endif
    (void)isa;
    count_scalar(symbols, n, counts);
}
