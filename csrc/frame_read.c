/* Reading a frame's header (FORMAT.md, section 2). */
#include "frame.h"

enum { MAX_BOUND_KIND = 7, MAX_EXPONENT = 1000 };

int set_bound(unsigned kind_and_flags, uint64_t digits, uint64_t exponent, reader *r, szd_header *h)
{
    h->bound_kind = kind_and_flags & 15;
    h->bound_flags = kind_and_flags >> 4;
    h->bound_digits = unzigzag(digits);
    h->bound_exponent = (int32_t)unzigzag(exponent & 0xffff);
    if (h->bound_flags & FLAG_RANGE) {
        h->bound_lo = read_f64(r);
        h->bound_hi = read_f64(r);
    }
    return h->bound_kind >= 1 && h->bound_kind <= MAX_BOUND_KIND && h->bound_flags <= 7 && exponent <= MAX_EXPONENT
               ? SZD_OK
               : SZD_HEADER_BOUND;
}

static int read_bound(reader *r, szd_header *h)
{
    unsigned kind_and_flags = read_u8(r);
    uint64_t digits = read_varint(r), exponent = read_varint(r);
    return set_bound(kind_and_flags, digits, exponent, r, h);
}

static int read_lattice(reader *r, szd_header *h)
{
    if (h->kind != SZD_LINEAR32 && h->kind != SZD_LINEAR64)
        return SZD_HEADER_FIELD;
    h->eps = read_f64(r);
    h->wide_bits = read_u8(r);
    if (reader_left(r))
        h->step = read_f64(r);
    else
        h->step = positive(h->eps) ? default_step(h) : 0;
    return SZD_OK;
}

int set_geometric(uint64_t points, uint64_t first, unsigned signs, double pointwise, szd_header *h)
{
    h->has_signs = signs;
    h->pointwise = pointwise;
    if (points > INT32_MAX || first > UINT32_MAX)
        return SZD_HEADER_BOUND;
    h->points_per_octave = (uint32_t)points;
    h->first_index = (int32_t)unzigzag(first);
    return SZD_OK;
}

static int read_geometric(reader *r, szd_header *h)
{
    if (h->kind != SZD_GEOMETRIC)
        return SZD_HEADER_FIELD;
    uint64_t points = read_varint(r), first = read_varint(r);
    unsigned signs = read_u8(r);
    return set_geometric(points, first, signs, read_f64(r), h);
}

static int read_tiles(reader *r, szd_header *h)
{
    h->tile_rank = read_u8(r);
    if (h->tile_rank < 1 || h->tile_rank > SZD_MAX_TILE_RANK)
        return SZD_HEADER_TILES;
    for (unsigned a = 0; a < h->tile_rank; a++)
        h->dims[a] = read_varint(r);
    for (unsigned a = 0; a < h->tile_rank; a++)
        h->tile[a] = read_varint(r);
    return SZD_OK;
}

static int read_predictor(reader *r, szd_header *h)
{
    h->predictor = read_u8(r);
    if (h->predictor == SZD_PREDICT_REGRESSION) {
        h->edge = read_u8(r);
        h->fraction_bits = read_u8(r);
    }
    if (h->predictor == SZD_PREDICT_REPEAT) {
        uint64_t lag = read_varint(r);
        h->lag = lag <= SZD_MAX_LAG ? (uint32_t)lag : 0;
    }
    if (h->predictor == SZD_PREDICT_INTERPOLATION && reader_left(r)) {
        h->snap = read_u8(r);
        if (!h->snap)
            return SZD_HEADER_PREDICTOR;
    }
    if (h->predictor == SZD_PREDICT_REFERENCE) { /* how many there must be is known once the tiles are */
        h->reference_dtype = read_u8(r);
        h->reference_count = reader_left(r) / 8;
        h->reference_digests = read_bytes(r, 8 * h->reference_count);
    }
    return h->predictor ? SZD_OK : SZD_HEADER_PREDICTOR;
}

static int read_axis(reader *r, szd_header *h)
{
    h->axis = read_u8(r);
    if (h->axis >= h->rank || h->tile_rank || reader_left(r) / 8 != h->shape[h->axis])
        return SZD_HEADER_FIELD;
    h->has_axis = 1;
    h->axis_eps = read_bytes(r, 8 * h->shape[h->axis]);
    return h->axis_eps ? SZD_OK : SZD_HEADER_FIELD;
}

static int read_axis_table(reader *r, szd_header *h)
{
    h->axis = read_u8(r);
    h->axis_values = 1 + read_u8(r);
    if (h->has_axis || h->axis >= h->rank || h->tile_rank)
        return SZD_HEADER_FIELD;
    h->has_axis = 1;
    h->axis_eps = read_bytes(r, 8 * h->axis_values);
    h->axis_index = read_bytes(r, h->shape[h->axis]);
    return h->axis_eps && h->axis_index ? SZD_OK : SZD_HEADER_FIELD;
}

static int read_mixed(reader *r, szd_header *h)
{
    (void)r;
    h->mixed = 1;
    return h->kind == SZD_LOSSLESS ? SZD_HEADER_FIELD : SZD_OK;
}

static int read_field(unsigned id, reader *r, szd_header *h)
{
    static int (*const parsers[])(reader *, szd_header *) = {NULL,           read_bound, read_lattice,
                                                             read_geometric, read_tiles, read_predictor,
                                                             read_axis,      read_mixed, read_axis_table};
    int status = parsers[id](r, h);
    if (status)
        return status;
    return r->failed || reader_left(r) ? SZD_HEADER_FIELD : SZD_OK;
}

/* Those of the ids least ... most. */
int read_fields(reader *r, szd_header *h, unsigned least, unsigned most)
{
    unsigned previous = least - 1;
    bool lattice_seen = false;
    for (;;) {
        unsigned id = read_u8(r);
        if (r->failed)
            return SZD_HEADER_FIELD;
        if (id == 0)
            return lattice_seen || least > FIELD_GEOMETRIC || h->kind == SZD_LOSSLESS ? SZD_OK : SZD_HEADER_FIELD;
        if (id > FIELD_LAST)
            return SZD_NEW_FIELD;
        uint64_t size = read_varint(r);
        const uint8_t *content = read_bytes(r, size);
        if (!content || id <= previous || id > most)
            return SZD_HEADER_FIELD;
        reader inner = {content, content + size, false};
        int status = read_field(id, &inner, h);
        if (status)
            return status;
        lattice_seen = lattice_seen || id == FIELD_LATTICE || id == FIELD_GEOMETRIC;
        previous = id;
    }
}

/* The extents of as many axes as the rank says. */
int read_shape(reader *r, szd_header *h)
{
    if (h->rank > SZD_MAX_RANK)
        return SZD_HEADER_SHAPE;
    for (unsigned a = 0; a < h->rank; a++)
        h->shape[a] = read_varint(r);
    if (r->failed)
        return SZD_HEADER_FIELD;
    return dtype_of(h->dtype).element_bytes ? SZD_OK : SZD_NEW_DTYPE;
}

static int read_start(reader *r, szd_header *h)
{
    h->dtype = read_u8(r);
    h->rank = read_u8(r);
    int status = read_shape(r, h);
    if (status)
        return status;
    h->kind = read_u8(r);
    if (r->failed)
        return SZD_HEADER_FIELD;
    return h->kind > SZD_GEOMETRIC ? SZD_NEW_KIND : read_fields(r, h, FIELD_BOUND, FIELD_LAST);
}

/* The blocks' lengths must fill the frame exactly. */
static int check_length(const szd_header *h, const uint8_t *index, size_t size)
{
    uint64_t end = h->header_bytes;
    for (uint64_t b = 0; b < h->blocks; b++)
        end += load_u32(index + SZD_INDEX_ENTRY * b);
    return end > size ? SZD_TRUNCATED : end < size ? SZD_TRAILING : SZD_OK;
}

static int read_indexed(const uint8_t *frame, size_t size, szd_header *h)
{
    if (memcmp(frame, MAGIC, size < sizeof MAGIC ? size : sizeof MAGIC) != 0)
        return SZD_MAGIC;
    if (size < PROLOGUE + 4)
        return SZD_TRUNCATED;
    if (frame[4] != VERSION)
        return SZD_NEW_VERSION;
    reader r = {frame + PROLOGUE, frame + size, false};
    uint64_t header_bytes = read_varint(&r);
    if (header_bytes > size)
        return SZD_TRUNCATED;
    size_t so_far = (size_t)(r.at - frame);
    if (r.failed || header_bytes < so_far + 4 ||
        load_u32(frame + header_bytes - 4) != szd_crc32c(frame, (size_t)header_bytes - 4))
        return SZD_HEADER_CRC;
    r.end = frame + header_bytes - 4;
    int status = read_start(&r, h);
    if (status == SZD_OK)
        status = check_header(h);
    if (status)
        return status;
    h->header_bytes = header_bytes;
    if (reader_left(&r) / SZD_INDEX_ENTRY != h->blocks || reader_left(&r) % SZD_INDEX_ENTRY)
        return SZD_HEADER_FIELD;
    if (h->predictor == SZD_PREDICT_REFERENCE && h->reference_count != h->blocks)
        return SZD_HEADER_FIELD;
    return check_length(h, r.at, size);
}

int szd_header_read(const uint8_t *frame, size_t size, szd_header *h)
{
    memset(h, 0, sizeof *h);
    fp_environment saved = fp_enter();
    int status = is_single(frame, size) ? read_single(frame, size, h) : read_indexed(frame, size, h);
    fp_leave(saved);
    return status == SZD_OK && !szd_frame_justified(h, size) ? SZD_FRAME_SHORT : status;
}
