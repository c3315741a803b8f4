/* Writes and reads frames on any processor, out of csrc alone: ./agree CASES RESULTS
 *
 * A case is: u32 coder, u32 instruction set, u64 length and bytes of a frame, u64 length and bytes of the values it was
 * made of (little-endian elements); numbers are little-endian. A result is: u64 length and bytes of the values that the
 * frame decodes to (little-endian elements), u64 length and bytes of the frame that the values give under the header of
 * the one that was read. */
#include "internal.h"
#include <stdio.h>
#include <stdlib.h>

static void fail(const char *what, int status)
{
    fprintf(stderr, "%s: %s\n", what, szd_status_text(status));
    exit(1);
}

static void *room(size_t size)
{
    void *p = malloc(size + !size);
    if (!p) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return p;
}

static uint8_t *read_file(const char *path, size_t *size)
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

static void put(FILE *file, const uint8_t *data, size_t size)
{
    uint8_t length[8];
    store_u64(length, size);
    if (fwrite(length, 1, 8, file) != 8 || fwrite(data, 1, size, file) != size) {
        perror("results");
        exit(2);
    }
}

static uint8_t *decode(const szd_header *h, const szd_options *options, const uint8_t *frame)
{
    size_t need = szd_decode_scratch(h);
    uint8_t *scratch = room(need), *values = room(h->elements * h->element_bytes);
    const uint8_t *index = frame + h->header_bytes - 4 - SZD_INDEX_ENTRY * h->blocks, *at = frame + h->header_bytes;
    uint64_t strides[SZD_MAX_TILE_RANK];
    tile_strides(h, strides);
    for (uint64_t b = 0; b < h->blocks; b++) {
        size_t size = load_u32(index + SZD_INDEX_ENTRY * b);
        tile t;
        if (!tile_of(h, b, &t) || load_u32(index + SZD_INDEX_ENTRY * b + 4) != szd_crc32c(at, size))
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
static uint8_t *encode(const szd_header *h, const szd_options *options, const uint8_t *values, size_t *total)
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
    int status = szd_header_write(h, index, frame, capacity);
    if (status)
        fail("header", status);
    *total = (size_t)(at - frame);
    free(scratch), free(index);
    return frame;
}

static const uint8_t *take_part(reader *r, size_t *size)
{
    const uint8_t *length = read_bytes(r, 8), *data = length ? read_bytes(r, load_u64(length)) : NULL;
    if (!data)
        fail("cases", SZD_TRUNCATED);
    *size = (size_t)(r->at - data);
    return data;
}

static void run_case(reader *r, FILE *results)
{
    const uint8_t *start = read_bytes(r, 8);
    if (!start)
        fail("cases", SZD_TRUNCATED);
    szd_options options = {load_u32(start), load_u32(start + 4)};
    size_t frame_size, values_size, made_size;
    const uint8_t *frame = take_part(r, &frame_size), *values = take_part(r, &values_size);
    szd_header h;
    int status = szd_header_read(frame, frame_size, &h);
    if (status)
        fail("header", status);
    size_t bytes = h.elements * h.element_bytes;
    uint8_t *decoded = decode(&h, &options, frame), *native = room(values_size);
    if (bytes != values_size)
        fail("values", SZD_ARGUMENT);
    to_little_endian(decoded, h.elements, h.element_bytes);
    put(results, decoded, bytes);
    memcpy(native, values, values_size);
    to_little_endian(native, h.elements, h.element_bytes); /* the same way back */
    uint8_t *made = encode(&h, &options, native, &made_size);
    put(results, made, made_size);
    free(decoded), free(native), free(made);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s CASES RESULTS\n", argv[0]);
        return 2;
    }
    size_t size, count = 0;
    uint8_t *cases = read_file(argv[1], &size);
    FILE *results = fopen(argv[2], "wb");
    if (!results) {
        perror(argv[2]);
        return 2;
    }
    reader r = {cases, cases + size, false};
    for (; reader_left(&r); count++)
        run_case(&r, results);
    if (fclose(results)) {
        perror(argv[2]);
        return 2;
    }
    printf("%zu frames\n", count);
    return 0;
}
