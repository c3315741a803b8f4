/* Cases for the programs that use the core without Python, out of a file that bench/platforms.py writes.
 *
 * A case is: u32 coder, u32 instruction set, u64 length and bytes of a frame, u64 length and bytes of the values it was
 * made of (little-endian elements); numbers are little-endian. */
#ifndef SZD_CASES_H
#define SZD_CASES_H
#include "internal.h"
#include <stdio.h>
#include <stdlib.h>

static inline void fail(const char *what, int status)
{
    fprintf(stderr, "%s: %s\n", what, szd_status_text(status));
    exit(1);
}

static inline void *room(size_t size)
{
    void *p = malloc(size + !size);
    if (!p) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return p;
}

static inline uint8_t *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) || (*size = (size_t)ftell(file)) == (size_t)-1 || fseek(file, 0, SEEK_SET)) {
        perror(path);
        exit(2);
    }
    uint8_t *data = room(*size);
    if (fread(data, 1, *size, file) != *size) {
        perror(path);
        exit(2);
    }
    fclose(file);
    return data;
}

static inline uint8_t *decode(const szd_header *h, const szd_options *options, const uint8_t *frame, size_t frame_size)
{
    size_t need = szd_decode_scratch(h);
    uint8_t *scratch = room(need), *values = room(h->elements * h->element_bytes);
    const uint8_t *index = frame + h->header_bytes - 4 - SZD_INDEX_ENTRY * h->blocks, *at = frame + h->header_bytes;
    uint64_t strides[SZD_MAX_TILE_RANK];
    tile_strides(h, strides);
    for (uint64_t b = 0; b < h->blocks; b++) {
        size_t size = h->single ? frame_size - h->header_bytes - 4 : load_u32(index + SZD_INDEX_ENTRY * b);
        tile t;
        if (!tile_of(h, b, &t) || (!h->single && load_u32(index + SZD_INDEX_ENTRY * b + 4) != szd_crc32c(at, size)))
            fail("block checksum", SZD_BLOCK_CODES);
        uint8_t *to = values + first_element(&t, strides) * h->element_bytes;
        int status = szd_decode_block(h, options, b, at, size, scratch, need, to, strides);
        if (status)
            fail("decoding", status);
        at += size;
    }
    free(scratch);
    return values;
}

/* The whole frame of the values, in native byte order, under this header. */
static inline uint8_t *encode(const szd_header *h, const szd_options *options, const uint8_t *values, size_t *total)
{
    size_t need = szd_encode_scratch(h), bound = szd_block_bound(h),
           capacity = h->header_bytes + (h->blocks + 1) * bound;
    uint8_t *scratch = room(need), *frame = room(capacity), *index = room(SZD_INDEX_ENTRY * h->blocks);
    uint8_t *at = frame + h->header_bytes;
    for (uint64_t b = 0; b < h->blocks; b++) {
        size_t size;
        int64_t saving;
        int status = szd_encode_block(h, options, values, b, scratch, need, at, bound, &size, &saving);
        if (status)
            fail("encoding", status);
        store_u32(index + SZD_INDEX_ENTRY * b, (uint32_t)size);
        store_u32(index + SZD_INDEX_ENTRY * b + 4, szd_crc32c(at, size));
        at += size;
    }
    *total = (size_t)(at - frame) + (h->single ? 4 : 0);
    uint8_t *single = room(*total);
    int status =
        h->single ? szd_frame_single(h, frame + h->header_bytes, (size_t)(at - frame) - h->header_bytes, single, *total)
                  : szd_header_write(h, index, frame, capacity);
    if (status)
        fail("header", status);
    if (h->single)
        memcpy(frame, single, *total);
    free(single);
    free(scratch), free(index);
    return frame;
}

static inline const uint8_t *take_part(reader *r, size_t *size)
{
    const uint8_t *length = read_bytes(r, 8), *data = length ? read_bytes(r, load_u64(length)) : NULL;
    if (!data)
        fail("cases", SZD_TRUNCATED);
    *size = (size_t)(r->at - data);
    return data;
}

typedef struct test_case {
    szd_options options;
    szd_header h;
    const uint8_t *frame;
    size_t frame_size;
    uint8_t *values; /* in native byte order */
    size_t size;
} test_case;

static inline test_case take_case(reader *r)
{
    const uint8_t *start = read_bytes(r, 8);
    if (!start)
        fail("cases", SZD_TRUNCATED);
    test_case c = {.options = {load_u32(start), load_u32(start + 4)}};
    c.frame = take_part(r, &c.frame_size);
    const uint8_t *values = take_part(r, &c.size);
    int status = szd_header_read(c.frame, c.frame_size, &c.h);
    if (status)
        fail("header", status);
    if (c.h.elements * c.h.element_bytes != c.size)
        fail("values", SZD_ARGUMENT);
    c.values = room(c.size);
    memcpy(c.values, values, c.size);
    to_little_endian(c.values, c.h.elements, c.h.element_bytes); /* the same way back */
    return c;
}
#endif
