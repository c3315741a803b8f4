/* Status texts, and which instruction sets this processor has. */
#include "internal.h"

const char *szd_status_text(int status)
{
    switch (status) {
    case SZD_OK: return "no error";
    case SZD_ARGUMENT: return "an argument is out of range";
    case SZD_BUFFER_TOO_SMALL: return "the output buffer is too small";
    case SZD_REFERENCE: return "the reference is missing, or not the one that this was made with";
    case SZD_NEW_VERSION: return "the format version is not one this library knows";
    case SZD_NEW_FIELD: return "the header has a field this library does not know";
    case SZD_NEW_KIND: return "the frame is of a kind this library does not know";
    case SZD_NEW_DTYPE: return "the dtype is not one this library knows";
    case SZD_MAGIC: return "it does not start with a frame's magic bytes";
    case SZD_TRUNCATED: return "it ends too early";
    case SZD_TRAILING: return "there are bytes after its end";
    case SZD_HEADER_CRC: return "the header's checksum does not match";
    case SZD_HEADER_FIELD: return "a header field does not fit its content";
    case SZD_HEADER_SHAPE: return "the header's shape is not possible";
    case SZD_HEADER_TILES: return "the header's tiles are not possible";
    case SZD_HEADER_BOUND: return "the header's bound or lattice is not possible";
    case SZD_HEADER_PREDICTOR: return "the header's predictor is not possible";
    case SZD_FRAME_SHORT: return "the frame is too short for the memory that its blocks would take";
    case SZD_FRAME_CRC: return "the frame's checksum does not match";
    case SZD_BLOCK_MODE: return "the block's mode is not known";
    case SZD_BLOCK_SHORT: return "the block ends too early";
    case SZD_BLOCK_TRAILING: return "there are bytes after the block's content";
    case SZD_BLOCK_TABLE: return "a code table is not possible";
    case SZD_BLOCK_CODES: return "the coded symbols are damaged";
    case SZD_BLOCK_OUTLIERS: return "the outliers are damaged";
    case SZD_BLOCK_ESCAPES: return "the escape values are damaged";
    case SZD_BLOCK_NUMBERS: return "a number is out of range";
    default: return "unknown status";
    }
}

uint32_t szd_isa_available(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
        __builtin_cpu_supports("avx512vbmi2"))
        return SZD_ISA_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt"))
        return SZD_ISA_AVX2;
#elif defined(__aarch64__)
    return SZD_ISA_NEON;
#endif
    return SZD_ISA_SCALAR;
}

/* Never more than there is. */
uint32_t isa_resolve(uint32_t isa)
{
    uint32_t best = szd_isa_available();
    return isa == SZD_ISA_AUTO || isa > best ? best : isa;
}
