/* Little-endian loads and stores, and bounded cursors over bytes. A cursor that runs out stays at its end and remembers
 * that it failed, so that a parser may check once. */
#ifndef SZD_BYTES_H
#define SZD_BYTES_H
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t load_u16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t load_u32(const uint8_t *p) { return (uint32_t)load_u16(p) | (uint32_t)load_u16(p + 2) << 16; }
static inline uint64_t load_u64(const uint8_t *p) { return (uint64_t)load_u32(p) | (uint64_t)load_u32(p + 4) << 32; }

/* The first place from `from` on whose byte is not zero; n where there is none. */
static inline size_t next_nonzero(const uint8_t *bytes, size_t from, size_t n)
{
    while (from + 8 <= n && load_u64(bytes + from) == 0)
        from += 8;
    while (from < n && !bytes[from])
        from++;
    return from;
}
static inline void store_u16(uint8_t *p, uint16_t v)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = (uint16_t)(v << 8 | v >> 8);
#endif
    memcpy(p, &v, sizeof v);
}
static inline void store_u32(uint8_t *p, uint32_t v)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap32(v);
#endif
    memcpy(p, &v, sizeof v);
}
static inline void store_u64(uint8_t *p, uint64_t v)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    memcpy(p, &v, sizeof v);
}

static inline double load_f64(const uint8_t *p)
{
    uint64_t u = load_u64(p);
    double d;
    memcpy(&d, &u, 8);
    return d;
}

static inline void store_f64(uint8_t *p, double d)
{
    uint64_t u;
    memcpy(&u, &d, 8);
    store_u64(p, u);
}

static inline uint64_t zigzag(int64_t v) { return (uint64_t)v << 1 ^ (v < 0 ? ~(uint64_t)0 : 0); }
static inline int64_t unzigzag(uint64_t u) { return (int64_t)(u >> 1 ^ (~(u & 1) + 1)); }

/* Elements of 1, 2, 4 or 8 bytes between this machine's byte order and little-endian, in place, either way. */
static inline void to_little_endian(uint8_t *p, size_t n, unsigned bytes)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    for (size_t i = 0; i < n; i++, p += bytes)
        for (unsigned k = 0; k < bytes / 2; k++) {
            uint8_t low = p[k];
            p[k] = p[bytes - 1 - k];
            p[bytes - 1 - k] = low;
        }
#else
    (void)p, (void)n, (void)bytes;
#endif
}

typedef struct reader {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
} reader;

static inline size_t reader_left(const reader *r) { return (size_t)(r->end - r->at); }

/* The next `size` bytes, or NULL. */
static inline const uint8_t *read_bytes(reader *r, uint64_t size)
{
    if (size > reader_left(r)) {
        r->failed = true;
        r->at = r->end;
        return NULL;
    }
    const uint8_t *p = r->at;
    r->at += size;
    return p;
}

static inline uint8_t read_u8(reader *r)
{
    const uint8_t *p = read_bytes(r, 1);
    return p ? *p : 0;
}

static inline double read_f64(reader *r)
{
    const uint8_t *p = read_bytes(r, 8);
    return p ? load_f64(p) : 0;
}

static inline uint64_t read_varint(reader *r)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t b = read_u8(r);
        if (shift == 63 && b > 1)
            break;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80) {
            if (b == 0 && shift)
                break; /* a longer code than needed: only one is valid, so that damage shows */
            return v;
        }
    }
    r->failed = true;
    return 0;
}

typedef struct writer {
    uint8_t *at;
    uint8_t *end;
    bool failed;
} writer;

static inline size_t writer_left(const writer *w) { return (size_t)(w->end - w->at); }

/* Room for `size` bytes, or NULL. */
static inline uint8_t *write_room(writer *w, uint64_t size)
{
    if (size > writer_left(w)) {
        w->failed = true;
        return NULL;
    }
    uint8_t *p = w->at;
    w->at += size;
    return p;
}

static inline void write_u8(writer *w, unsigned v)
{
    uint8_t *p = write_room(w, 1);
    if (p)
        *p = (uint8_t)v;
}

static inline void write_f64(writer *w, double v)
{
    uint8_t *p = write_room(w, 8);
    if (p)
        store_f64(p, v);
}

static inline void write_bytes(writer *w, const void *data, size_t size)
{
    uint8_t *p = write_room(w, size);
    if (p && size)
        memcpy(p, data, size);
}

static inline void write_varint(writer *w, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        write_u8(w, (unsigned)(v & 0x7f) | 0x80);
    write_u8(w, (unsigned)v);
}

static inline unsigned varint_size(uint64_t v)
{
    unsigned n = 1;
    for (; v >= 0x80; v >>= 7)
        n++;
    return n;
}
#endif
