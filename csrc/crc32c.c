/* CRC-32C. The table-driven form takes 8 bytes a step ("slicing by 8"); x86 has an instruction for it, and carry-less
 * products that shorten long messages first. */
#include "internal.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* tables[0][b] is the CRC of the byte b; tables[k][b] that of b followed by k zero bytes. */
static void make_tables(uint32_t tables[8][256])
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t c = b;
        for (int i = 0; i < 8; i++)
            c = c >> 1 ^ (c & 1 ? 0x82F63B78u : 0);
        tables[0][b] = c;
    }
    for (int k = 1; k < 8; k++)
        for (int b = 0; b < 256; b++)
            tables[k][b] = tables[k - 1][b] >> 8 ^ tables[0][tables[k - 1][b] & 0xff];
}

/* One bit at a time: no table to make, so the quicker way for a few bytes. */
static uint32_t crc_bitwise(uint32_t c, const uint8_t *p, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++)
            c = c >> 1 ^ (0x82F63B78u & (0u - (c & 1)));
    }
    return c;
}

static uint32_t crc_scalar(uint32_t c, const uint8_t *p, size_t size)
{
    if (size < 1024)
        return crc_bitwise(c, p, size);
    uint32_t t[8][256];
    make_tables(t);
    for (; size >= 8; p += 8, size -= 8) {
        uint32_t lo = load_u32(p) ^ c, hi = load_u32(p + 4);
        c = t[7][lo & 0xff] ^ t[6][lo >> 8 & 0xff] ^ t[5][lo >> 16 & 0xff] ^ t[4][lo >> 24] ^ t[3][hi & 0xff] ^
            t[2][hi >> 8 & 0xff] ^ t[1][hi >> 16 & 0xff] ^ t[0][hi >> 24];
    }
    return crc_bitwise(c, p, size);
}

#if defined(__x86_64__)
#define TARGET_CRC __attribute__((target("sse4.2,pclmul")))
/* Bytes of each of three CRCs that are taken side by side, since the instruction has a latency of three. */
enum { LANE = 256 };

/* The CRC of what c is the CRC of, and then as many zero bytes as `power` says: x^(8 bytes - 33) modulo the polynomial,
 * bits reflected. The carry-less product's 63 bits stand one place from where the CRC instruction takes them, and that
 * multiplies by x^32. */
TARGET_CRC static inline uint32_t append_zeros(uint32_t c, uint32_t power)
{
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi32_si128((int)c), _mm_cvtsi32_si128((int)power), 0);
    return (uint32_t)_mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

TARGET_CRC static inline uint64_t crc_word(uint64_t c, const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, 8);
    return _mm_crc32_u64(c, word);
}

TARGET_CRC static uint32_t crc_sse42(uint32_t c, const uint8_t *p, size_t size)
{
    const uint32_t one_lane = 0xb9e02b86, two_lanes = 0xdd7e3b0c;
    for (; size >= 3 * LANE; p += 3 * LANE, size -= 3 * LANE) {
        uint64_t x = c, y = 0, z = 0;
        for (size_t i = 0; i < LANE; i += 8) {
            x = crc_word(x, p + i);
            y = crc_word(y, p + LANE + i);
            z = crc_word(z, p + 2 * LANE + i);
        }
        c = append_zeros((uint32_t)x, two_lanes) ^ append_zeros((uint32_t)y, one_lane) ^ (uint32_t)z;
    }
    uint64_t wide = c;
    for (; size >= 8; p += 8, size -= 8)
        wide = crc_word(wide, p);
    c = (uint32_t)wide;
    for (; size; p++, size--)
        c = _mm_crc32_u8(c, *p);
    return c;
}

/* Long messages are shortened first (Gopal et al. 2009): to one of FOLD + rest bytes with the same CRC. v times x^2048
 * for each 128 bits of v: their lower (in the message the earlier) half times x^2111, the other times x^2047, modulo
 * the polynomial, bits reflected, in the upper half of 64 bits. A carry-less product of reflected numbers stands one
 * place too low: times x. */
enum { FOLD = 256, LEAST_FOLDED = 2048 };
#define FOLD_EARLY 0xe9a5d8be00000000
#define FOLD_LATE 0x1426a81500000000

#define TARGET_FOLD_256 __attribute__((target("avx2,vpclmulqdq")))

TARGET_FOLD_256 static inline __m256i fold_256(__m256i v, __m256i powers, __m256i next)
{
    __m256i early = _mm256_clmulepi64_epi128(v, powers, 0x00), late = _mm256_clmulepi64_epi128(v, powers, 0x11);
    return _mm256_xor_si256(_mm256_xor_si256(early, late), next);
}

/* Returns how many bytes of the message are done. */
TARGET_FOLD_256 static size_t fold_message_256(uint32_t c, const uint8_t *p, size_t size, uint8_t folded[FOLD])
{
    const __m256i powers = _mm256_set_epi64x(FOLD_LATE, (int64_t)FOLD_EARLY, FOLD_LATE, (int64_t)FOLD_EARLY);
    __m256i v[8];
    for (size_t k = 0; k < 8; k++)
        v[k] = _mm256_loadu_si256((const __m256i *)(const void *)(p + 32 * k));
    v[0] = _mm256_xor_si256(v[0], _mm256_zextsi128_si256(_mm_cvtsi32_si128((int)c)));
    size_t done = FOLD;
    for (; size - done >= FOLD; done += FOLD)
#pragma GCC unroll 8
        for (size_t k = 0; k < 8; k++)
            v[k] = fold_256(v[k], powers, _mm256_loadu_si256((const __m256i *)(const void *)(p + done + 32 * k)));
    for (size_t k = 0; k < 8; k++)
        _mm256_storeu_si256((__m256i *)(void *)(folded + 32 * k), v[k]);
    return done;
}

#define TARGET_FOLD_512 __attribute__((target("avx512f,vpclmulqdq")))

TARGET_FOLD_512 static inline __m512i fold_512(__m512i v, __m512i powers, __m512i next)
{
    __m512i early = _mm512_clmulepi64_epi128(v, powers, 0x00), late = _mm512_clmulepi64_epi128(v, powers, 0x11);
    return _mm512_ternarylogic_epi64(early, late, next, 0x96); /* exclusive or */
}

TARGET_FOLD_512 static size_t fold_message_512(uint32_t c, const uint8_t *p, size_t size, uint8_t folded[FOLD])
{
    const __m512i powers = _mm512_set4_epi64(FOLD_LATE, (int64_t)FOLD_EARLY, FOLD_LATE, (int64_t)FOLD_EARLY);
    __m512i v[4];
    for (size_t k = 0; k < 4; k++)
        v[k] = _mm512_loadu_si512(p + 64 * k);
    v[0] = _mm512_xor_si512(v[0], _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)c)));
    size_t done = FOLD;
    for (; size - done >= FOLD; done += FOLD)
        for (size_t k = 0; k < 4; k++)
            v[k] = fold_512(v[k], powers, _mm512_loadu_si512(p + done + 64 * k));
    for (size_t k = 0; k < 4; k++)
        _mm512_storeu_si512(folded + 64 * k, v[k]);
    return done;
}

/* How many bytes of the message `folded` stands for, with its first CRC c: none where there are no such products. */
static size_t fold_message(uint32_t c, const uint8_t *p, size_t size, uint32_t isa, uint8_t folded[FOLD])
{
    const bool any = isa == SZD_ISA_AUTO, products = __builtin_cpu_supports("vpclmulqdq");
    if (size < LEAST_FOLDED || !products)
        return 0;
    if ((any || isa >= SZD_ISA_AVX512) && __builtin_cpu_supports("avx512f"))
        return fold_message_512(c, p, size, folded);
    if ((any || isa >= SZD_ISA_AVX2) && __builtin_cpu_supports("avx2"))
        return fold_message_256(c, p, size, folded);
    return 0;
}

static uint32_t crc_by_products(uint32_t c, const uint8_t *p, size_t size, uint32_t isa)
{
    uint8_t folded[FOLD];
    size_t done = fold_message(c, p, size, isa, folded);
    if (done)
        c = crc_sse42(0, folded, FOLD);
    return crc_sse42(c, p + done, size - done);
}
#endif

uint32_t crc32c(const uint8_t *data, size_t size, uint32_t isa)
{
#if defined(__x86_64__)
    if (isa != SZD_ISA_SCALAR && __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul"))
        return ~crc_by_products(~0u, data, size, isa);
#endif
    (void)isa;
    return ~crc_scalar(~0u, data, size);
}

uint32_t szd_crc32c(const uint8_t *data, size_t size) { return crc32c(data, size, SZD_ISA_AUTO); }
