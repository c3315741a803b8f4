/* Elements losslessly (FORMAT.md, section 5): each byte of the (rotated or differenced) elements is a stream of its
 * own. The exponent's bytes compress to their entropy; the mantissa's stay raw where nothing is to be had. */
#include "internal.h"

size_t planes_scratch(size_t n) { return n + symbols_scratch(n); }

INLINE uint64_t load_element(const uint8_t *p, unsigned bytes)
{
    uint64_t u8v = 0;
    uint16_t h;
    uint32_t s;
    switch (bytes) {
    case 1: return p[0];
    case 2: memcpy(&h, p, 2); return h;
    case 4: memcpy(&s, p, 4); return s;
    default: memcpy(&u8v, p, 8); return u8v;
    }
}

INLINE void store_element(uint8_t *p, uint64_t u, unsigned bytes)
{
    uint16_t h = (uint16_t)u;
    uint32_t s = (uint32_t)u;
    switch (bytes) {
    case 1: p[0] = (uint8_t)u; break;
    case 2: memcpy(p, &h, 2); break;
    case 4: memcpy(p, &s, 4); break;
    default: memcpy(p, &u, 8);
    }
}

/* Modulo 2^bits, the result in the low bits. */
INLINE uint64_t mask_of(unsigned bytes) { return ~(uint64_t)0 >> (64 - 8 * bytes); }

INLINE uint64_t zigzag_width(uint64_t d, unsigned bytes)
{
    uint64_t sign = d >> (8 * bytes - 1) & 1;
    return (d << 1 ^ (0 - sign)) & mask_of(bytes);
}

INLINE uint64_t rotate_left(uint64_t u, unsigned bytes) { return (u << 1 | u >> (8 * bytes - 1)) & mask_of(bytes); }
INLINE uint64_t rotate_right(uint64_t u, unsigned bytes) { return u >> 1 | (u & 1) << (8 * bytes - 1); }

INLINE void extract_plane(const uint8_t *elements, size_t n, unsigned bytes, unsigned plane, bool rotate, bool delta,
                          uint8_t *out)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t u = load_element(elements + i * bytes, bytes);
        if (rotate)
            u = rotate_left(u, bytes);
        else if (delta)
            u = zigzag_width((u - (i ? load_element(elements + (i - 1) * bytes, bytes) : 0)) & mask_of(bytes), bytes);
        out[i] = (uint8_t)(u >> (8 * plane));
    }
}

/* The width as a constant, so that each loop is compiled for its own. */
static void extract(const uint8_t *elements, size_t n, unsigned bytes, unsigned plane, bool rotate, bool delta,
                    uint8_t *out)
{
    switch (bytes) {
    case 1: extract_plane(elements, n, 1, plane, rotate, delta, out); break;
    case 2: extract_plane(elements, n, 2, plane, rotate, delta, out); break;
    case 4: extract_plane(elements, n, 4, plane, rotate, delta, out); break;
    default: extract_plane(elements, n, 8, plane, rotate, delta, out);
    }
}

void planes_encode(const uint8_t *elements, size_t n, unsigned bytes, bool rotate, bool delta, uint32_t coder,
                   uint32_t isa, uint8_t *scratch, writer *w)
{
    for (unsigned plane = 0; plane < bytes; plane++) {
        uint32_t counts[256];
        extract(elements, n, bytes, plane, rotate, delta, scratch);
        histogram_u8(scratch, n, counts);
        symbols_encode(scratch, n, counts, coder, isa, scratch + n, w);
    }
}

/* The order-0 entropy in bytes of the first m symbols; that of all is no less, since entropy is concave. Rounded down:
 * log2_q16 truncates. */
static uint64_t entropy_floor(const uint8_t *symbols, size_t m)
{
    uint32_t counts[256];
    uint64_t cost = 0, whole = log2_q16((uint32_t)m);
    histogram_u8(symbols, m, counts);
    for (unsigned s = 0; s < 256; s++)
        if (counts[s]) {
            uint64_t own = log2_q16(counts[s]) + 1;
            cost += counts[s] * (whole > own ? whole - own : 0);
        }
    return cost >> 19;
}

/* Lower planes first: in floats they are the least compressible. A symbol has 8 bits at most, so that `enough` tells
 * how many to look at. */
uint64_t planes_floor(const uint8_t *elements, size_t n, unsigned bytes, bool rotate, uint64_t enough)
{
    enum { PART = 1 << 14 };
    uint8_t symbols[PART];
    uint64_t found = 0;
    for (unsigned plane = 0; plane < bytes; plane++)
        for (size_t done = 0; done < n && found < enough; done += PART) {
            size_t part = n - done < PART ? n - done : PART;
            extract(elements + done * bytes, part, bytes, plane, rotate, false, symbols);
            found += entropy_floor(symbols, part);
        }
    return found;
}

int planes_begin(planes_decoder *d, reader *r, size_t n, unsigned bytes, bool rotate, bool delta)
{
    d->bytes = bytes;
    d->rotate = rotate;
    d->delta = delta;
    d->previous = 0;
    for (unsigned plane = 0; plane < bytes; plane++) {
        int status = symbols_begin(&d->planes[plane], r, n, SZD_ISA_SCALAR, NULL);
        if (status)
            return status;
    }
    return SZD_OK;
}

INLINE void join(planes_decoder *d, uint8_t *elements, size_t n, unsigned bytes)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t u = 0;
        for (unsigned plane = 0; plane < bytes; plane++)
            u |= (uint64_t)d->buffer[plane][i] << (8 * plane);
        if (d->rotate)
            u = rotate_right(u, bytes);
        store_element(elements + i * bytes, u, bytes);
    }
}

static void sum_up(planes_decoder *d, uint8_t *elements, size_t n, unsigned bytes)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t u = load_element(elements + i * bytes, bytes);
        d->previous = (d->previous + (u >> 1 ^ (0 - (u & 1)))) & mask_of(bytes);
        store_element(elements + i * bytes, d->previous, bytes);
    }
}

bool planes_next(planes_decoder *d, uint8_t *elements, size_t n, uint32_t isa)
{
    for (size_t done = 0; done < n;) {
        size_t part = n - done < CHUNK ? n - done : CHUNK;
        uint8_t *to = elements + done * d->bytes;
        for (unsigned plane = 0; plane < d->bytes; plane++)
            if (!symbols_decode(&d->planes[plane], d->buffer[plane], part, isa))
                return false;
        switch (d->bytes) {
        case 1: join(d, to, part, 1); break;
        case 2: join(d, to, part, 2); break;
        case 4: join(d, to, part, 4); break;
        default: join(d, to, part, 8);
        }
        if (d->delta)
            sum_up(d, to, part, d->bytes);
        done += part;
    }
    return true;
}

bool planes_finished(planes_decoder *d)
{
    for (unsigned plane = 0; plane < d->bytes; plane++)
        if (!symbols_finished(&d->planes[plane]))
            return false;
    return true;
}
