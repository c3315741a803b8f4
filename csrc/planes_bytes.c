/* The byte form (FORMAT.md, section 5.1): each byte of the (rotated or differenced) elements is a stream of its own. */
#include "planes.h"

/* Modulo 2^bits, the result in the low bits. */
INLINE uint64_t mask_of(unsigned bytes) { return ~(uint64_t)0 >> (64 - 8 * bytes); }

INLINE uint64_t zigzag_width(uint64_t d, unsigned bytes)
{
    uint64_t sign = d >> (8 * bytes - 1) & 1;
    return (d << 1 ^ (0 - sign)) & mask_of(bytes);
}

INLINE uint64_t rotate_left(uint64_t u, unsigned bytes) { return (u << 1 | u >> (8 * bytes - 1)) & mask_of(bytes); }
INLINE uint64_t rotate_right(uint64_t u, unsigned bytes) { return u >> 1 | (u & 1) << (8 * bytes - 1); }

INLINE void extract_body(const uint8_t *elements, size_t n, unsigned bytes, unsigned plane, bool rotate, bool delta,
                         uint64_t previous, uint8_t *restrict out)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t u = load_element(elements + i * bytes, bytes);
        if (rotate)
            u = rotate_left(u, bytes);
        else if (delta)
            u = zigzag_width((u - (i ? load_element(elements + (i - 1) * bytes, bytes) : previous)) & mask_of(bytes),
                             bytes);
        out[i] = (uint8_t)(u >> (8 * plane));
    }
}

/* The inverse, all planes at once. */
INLINE void join_body(const uint8_t *const *planes, size_t n, unsigned bytes, bool rotate, uint8_t *restrict elements)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t u = 0;
        for (unsigned plane = 0; plane < bytes; plane++)
            u |= (uint64_t)planes[plane][i] << (8 * plane);
        store_element(elements + i * bytes, rotate ? rotate_right(u, bytes) : u, bytes);
    }
}

/* The width as a constant, so that each loop is compiled for its own. */
#define FOR_BYTES(bytes, call) \
    switch (bytes) {           \
    case 1: call(1); break;    \
    case 2: call(2); break;    \
    case 4: call(4); break;    \
    default: call(8);          \
    }
#define EXTRACT(width) extract_body(elements, n, width, plane, rotate, delta, previous, out)
#define JOIN(width) join_body(planes, n, width, rotate, elements)

#define BYTE_LOOPS(suffix, target)                                                                                  \
    target static void extract_##suffix(const uint8_t *elements, size_t n, unsigned bytes, unsigned plane,          \
                                        bool rotate, bool delta, uint64_t previous, uint8_t *out){                  \
        FOR_BYTES(bytes, EXTRACT)} target static void join_##suffix(const uint8_t *const *planes, size_t n,         \
                                                                    unsigned bytes, bool rotate, uint8_t *elements) \
    {                                                                                                               \
        FOR_BYTES(bytes, JOIN)                                                                                      \
    }
BYTE_LOOPS(scalar, )
BYTE_LOOPS(avx2, TARGET_AVX2)
BYTE_LOOPS(avx512, TARGET_AVX512)

/* One plane of the n elements from `start` on. */
void extract_plane(const uint8_t *elements, size_t start, size_t n, unsigned bytes, unsigned plane, bool rotate,
                   bool delta, uint32_t isa, uint8_t *out)
{
    const uint8_t *from = elements + start * bytes;
    uint64_t previous = start ? load_element(from - bytes, bytes) : 0;
    PICK(isa, extract)(from, n, bytes, plane, rotate, delta, previous, out);
}

/* Planes that the plan found flat go straight into the output. */
void bytes_encode(const planes_plan *plan, const uint8_t *elements, size_t n, unsigned bytes, bool rotate, bool delta,
                  uint32_t coder, uint32_t isa, uint8_t *scratch, writer *w)
{
    uint8_t *symbols = take(&scratch, n);
    write_u8(w, FORM_BYTES);
    for (unsigned plane = 0; plane < bytes; plane++) {
        if (plan->raw_planes >> plane & 1) {
            write_u8(w, SYMBOLS_RAW);
            uint8_t *room = write_room(w, n);
            if (room)
                extract_plane(elements, 0, n, bytes, plane, rotate, delta, isa, room);
            continue;
        }
        uint32_t counts[256];
        extract_plane(elements, 0, n, bytes, plane, rotate, delta, isa, symbols);
        histogram_u8(symbols, n, isa, counts);
        symbols_encode(symbols, n, counts, coder, isa, aligned64(scratch), w);
    }
}

int bytes_begin(planes_decoder *d, reader *r, size_t n)
{
    d->previous = 0;
    for (unsigned plane = 0; plane < d->bytes; plane++) {
        int status = symbols_begin(&d->planes[plane], r, n, SZD_ISA_SCALAR, NULL);
        if (status)
            return status;
    }
    return SZD_OK;
}

static void sum_up(planes_decoder *d, uint8_t *elements, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t u = load_element(elements + i * d->bytes, d->bytes);
        d->previous = (d->previous + (u >> 1 ^ (0 - (u & 1)))) & mask_of(d->bytes);
        store_element(elements + i * d->bytes, d->previous, d->bytes);
    }
}

/* At most CHUNK elements. Raw planes are read where they are. */
bool bytes_next(planes_decoder *d, uint8_t *elements, size_t n, uint32_t isa)
{
    const uint8_t *planes[8];
    for (unsigned plane = 0; plane < d->bytes; plane++) {
        planes[plane] = symbols_next(&d->planes[plane], d->buffer[plane], n, isa);
        if (!planes[plane])
            return false;
    }
    PICK(isa, join)(planes, n, d->bytes, d->rotate, elements);
    if (d->delta)
        sum_up(d, elements, n);
    return true;
}

bool bytes_finished(planes_decoder *d)
{
    for (unsigned plane = 0; plane < d->bytes; plane++)
        if (!symbols_finished(&d->planes[plane]))
            return false;
    return true;
}
