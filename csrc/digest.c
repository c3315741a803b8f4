/* The digest of a reference's values: which tensor a frame was made with (FORMAT.md, section 10).
 *
 * A sum over elements, each mixed with its place in the tensor (the finalizer of splitmix64, Steele et al. 2014): so a
 * block's digest needs that block's elements alone, and the whole tensor's is the sum of any blocks that it is cut
 * into. It tells tensors apart; it does not withstand someone who makes one up to fit.
 */
#include "internal.h"

INLINE uint64_t mixed(uint64_t z)
{
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

#define DIGEST(type)                                                                 \
    INLINE uint64_t digest_##type(const uint8_t *elements, uint64_t first, size_t n) \
    {                                                                                \
        uint64_t sum = 0;                                                            \
        for (size_t i = 0; i < n; i++) {                                             \
            type u;                                                                  \
            memcpy(&u, elements + i * sizeof u, sizeof u);                           \
            sum += mixed(u + (first + i + 1) * 0x9E3779B97F4A7C15u);                 \
        }                                                                            \
        return sum;                                                                  \
    }
DIGEST(uint8_t)
DIGEST(uint16_t)
DIGEST(uint32_t)
DIGEST(uint64_t)

INLINE uint64_t digest_body(const uint8_t *elements, uint64_t first, size_t n, unsigned bytes)
{
    switch (bytes) {
    case 1: return digest_uint8_t(elements, first, n);
    case 2: return digest_uint16_t(elements, first, n);
    case 4: return digest_uint32_t(elements, first, n);
    default: return digest_uint64_t(elements, first, n);
    }
}

static uint64_t digest_scalar(const uint8_t *elements, uint64_t first, size_t n, unsigned bytes)
{
    return digest_body(elements, first, n, bytes);
}
TARGET_AVX2 static uint64_t digest_avx2(const uint8_t *elements, uint64_t first, size_t n, unsigned bytes)
{
    return digest_body(elements, first, n, bytes);
}
TARGET_AVX512 static uint64_t digest_avx512(const uint8_t *elements, uint64_t first, size_t n, unsigned bytes)
{
    return digest_body(elements, first, n, bytes);
}

uint64_t digest(const uint8_t *elements, uint64_t first, size_t n, unsigned bytes, uint32_t isa)
{
    return PICK(isa, digest)(elements, first, n, bytes);
}

int szd_digest(uint32_t dtype, const szd_options *options, const uint8_t *elements, uint64_t first, uint64_t count,
               uint64_t *sum)
{
    unsigned bytes = dtype_of(dtype).element_bytes;
    if (!bytes)
        return SZD_ARGUMENT;
    *sum = digest(elements, first, (size_t)count, bytes, isa_resolve(options->isa));
    return SZD_OK;
}
