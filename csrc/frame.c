/* The frame's header (FORMAT.md, section 2): checked, derived, written, read. */
#include "internal.h"

static const uint8_t MAGIC[4] = {0xF5, 'S', 'Z', 'D'};
enum { VERSION = 0, PROLOGUE = 9 };
enum { FIELD_BOUND = 1, FIELD_LATTICE = 2, FIELD_GEOMETRIC = 3, FIELD_TILES = 4, FIELD_PREDICTOR = 5, FIELD_AXIS = 6, FIELD_LAST = 6 };
enum { FLAG_RANGE = 2, MAX_BOUND_KIND = 7, MAX_WIDE_BITS = 26 };
static const uint64_t MAX_BYTES = (uint64_t)1 << 60;

static bool positive(double v) { return v > 0 && v <= 0x1.fffffffffffffp1023; }

/* Also refuses extents that do not fit beside others that are zero. */
static int count_elements(szd_header *h, dtype_info info)
{
    if (h->rank > SZD_MAX_RANK)
        return SZD_HEADER_SHAPE;
    uint64_t product = info.element_bytes * info.per_value;
    bool empty = false;
    for (unsigned a = 0; a < h->rank; a++) {
        uint64_t extent = h->shape[a];
        empty = empty || extent == 0;
        if (extent > MAX_BYTES || (extent && product > MAX_BYTES / extent))
            return SZD_HEADER_SHAPE;
        product *= extent ? extent : 1;
    }
    h->element_bytes = info.element_bytes;
    h->elements = empty ? 0 : product / info.element_bytes;
    return SZD_OK;
}

static int check_bound(const szd_header *h)
{
    switch (h->kind) {
    case SZD_LOSSLESS:
        return SZD_OK;
    case SZD_LINEAR32:
        return positive(h->eps) && positive(h->step) && (double)(float)h->step == h->step && h->wide_bits == 0 ? SZD_OK : SZD_HEADER_BOUND;
    case SZD_LINEAR64:
        return positive(h->eps) && positive(h->step) && h->wide_bits <= MAX_WIDE_BITS ? SZD_OK : SZD_HEADER_BOUND;
    default:
        return h->points_per_octave >= 1 && h->points_per_octave <= INT32_MAX && h->has_signs <= 1 && positive(h->pointwise) ? SZD_OK : SZD_HEADER_BOUND;
    }
}

static int check_axis(const szd_header *h)
{
    if (h->kind != SZD_LINEAR64 || h->axis >= h->rank || h->tile_rank != 1)
        return SZD_HEADER_BOUND;
    for (uint64_t i = 0; i < h->shape[h->axis]; i++) {
        double eps = load_f64(h->axis_eps + 8 * i);
        if (!positive(eps) || !positive(2 * eps))
            return SZD_HEADER_BOUND;
    }
    return SZD_OK;
}

static int check_predictor(const szd_header *h, dtype_info info)
{
    if (h->predictor > SZD_PREDICT_REGRESSION)
        return SZD_HEADER_PREDICTOR;
    if (h->kind == SZD_LOSSLESS && h->predictor && (h->predictor != SZD_PREDICT_LORENZO || info.is_float || h->tile_rank != 1))
        return SZD_HEADER_PREDICTOR;
    if (h->predictor == SZD_PREDICT_REGRESSION && (h->edge < 2 || h->edge > 64 || h->fraction_bits > 12))
        return SZD_HEADER_PREDICTOR;
    return SZD_OK;
}

static void default_tiles(szd_header *h)
{
    h->tile_rank = 1;
    h->dims[0] = h->elements;
    h->tile[0] = h->elements < SZD_DEFAULT_TILE ? (h->elements ? h->elements : 1) : SZD_DEFAULT_TILE;
}

static bool tiles_are_default(const szd_header *h)
{
    szd_header d = *h;
    default_tiles(&d);
    return h->tile_rank == 1 && h->tile[0] == d.tile[0];
}

static int check_tiles(szd_header *h)
{
    if (h->tile_rank < 1 || h->tile_rank > SZD_MAX_TILE_RANK)
        return SZD_HEADER_TILES;
    uint64_t limit = h->predictor && h->kind != SZD_LOSSLESS ? SZD_MAX_TILE : ((uint64_t)1 << 31) / h->element_bytes;
    uint64_t dims = 1, volume = 1, blocks = 1;
    for (unsigned a = 0; a < h->tile_rank; a++) {
        uint64_t extent = h->dims[a], edge = h->tile[a];
        if (edge < 1 || edge > (extent ? extent : 1) || edge > limit / volume || (extent && dims > MAX_BYTES / extent))
            return SZD_HEADER_TILES;
        dims *= extent;
        volume *= edge;
        blocks *= extent / edge + (extent % edge != 0);
    }
    h->blocks = blocks;
    return dims == h->elements ? SZD_OK : SZD_HEADER_TILES;
}

/* All that does not depend on how the header came to be. */
static int check_header(szd_header *h)
{
    dtype_info info = dtype_of(h->dtype);
    if (!info.element_bytes)
        return SZD_NEW_DTYPE;
    if (h->kind > SZD_GEOMETRIC)
        return SZD_NEW_KIND;
    if ((h->kind != SZD_LOSSLESS && h->dtype > DT_F64) || (h->kind == SZD_LINEAR32 && h->dtype == DT_F64))
        return SZD_HEADER_BOUND;
    int status = count_elements(h, info);
    if (status == SZD_OK && h->tile_rank == 0)
        default_tiles(h);
    if (status == SZD_OK)
        status = check_bound(h);
    if (status == SZD_OK)
        status = check_predictor(h, info);
    if (status == SZD_OK)
        status = check_tiles(h);
    return status == SZD_OK && h->has_axis ? check_axis(h) : status;
}

/* The step that a header without one means. */
static double default_step(const szd_header *h)
{
    return 2 * (h->kind == SZD_LINEAR32 ? (double)float_below(h->eps) : h->eps);
}

/* A field's content is written through a second writer, so that its length comes out of what was written. */
typedef struct field {
    uint8_t bytes[256];
    writer w;
} field;

static void field_begin(field *f) { f->w = (writer){f->bytes, f->bytes + sizeof f->bytes, false}; }

static void field_end(field *f, unsigned id, writer *w)
{
    size_t size = (size_t)(f->w.at - f->bytes);
    write_u8(w, id);
    write_varint(w, size);
    write_bytes(w, f->bytes, size);
}

static void write_bound(const szd_header *h, writer *w)
{
    field f;
    field_begin(&f);
    write_u8(&f.w, h->bound_kind | h->bound_flags << 4);
    write_varint(&f.w, zigzag(h->bound_digits));
    write_varint(&f.w, zigzag(h->bound_exponent));
    if (h->bound_flags & FLAG_RANGE) {
        write_f64(&f.w, h->bound_lo);
        write_f64(&f.w, h->bound_hi);
    }
    field_end(&f, FIELD_BOUND, w);
}

static void write_lattice(const szd_header *h, writer *w)
{
    field f;
    field_begin(&f);
    if (h->kind == SZD_GEOMETRIC) {
        write_varint(&f.w, h->points_per_octave);
        write_varint(&f.w, zigzag(h->first_index));
        write_u8(&f.w, h->has_signs);
        write_f64(&f.w, h->pointwise);
    } else {
        write_f64(&f.w, h->eps);
        write_u8(&f.w, h->wide_bits);
        if (h->step != default_step(h))
            write_f64(&f.w, h->step);
    }
    field_end(&f, h->kind == SZD_GEOMETRIC ? FIELD_GEOMETRIC : FIELD_LATTICE, w);
}

static void write_tiles(const szd_header *h, writer *w)
{
    field f;
    field_begin(&f);
    write_u8(&f.w, h->tile_rank);
    for (unsigned a = 0; a < h->tile_rank; a++)
        write_varint(&f.w, h->dims[a]);
    for (unsigned a = 0; a < h->tile_rank; a++)
        write_varint(&f.w, h->tile[a]);
    field_end(&f, FIELD_TILES, w);
}

static void write_predictor(const szd_header *h, writer *w)
{
    field f;
    field_begin(&f);
    write_u8(&f.w, h->predictor);
    if (h->predictor == SZD_PREDICT_REGRESSION) {
        write_u8(&f.w, h->edge);
        write_u8(&f.w, h->fraction_bits);
    }
    field_end(&f, FIELD_PREDICTOR, w);
}

static void write_axis(const szd_header *h, writer *w)
{
    uint64_t count = h->shape[h->axis];
    write_u8(w, FIELD_AXIS);
    write_varint(w, 1 + 8 * count);
    write_u8(w, h->axis);
    write_bytes(w, h->axis_eps, 8 * count);
}

static void write_fields(const szd_header *h, writer *w)
{
    if (h->bound_kind)
        write_bound(h, w);
    if (h->kind)
        write_lattice(h, w);
    if (!tiles_are_default(h))
        write_tiles(h, w);
    if (h->predictor)
        write_predictor(h, w);
    if (h->has_axis)
        write_axis(h, w);
    write_u8(w, 0);
}

/* The header up to its block index. */
static void write_start(const szd_header *h, writer *w)
{
    write_bytes(w, MAGIC, sizeof MAGIC);
    write_u8(w, VERSION);
    uint8_t *size = write_room(w, 4);
    if (size)
        store_u32(size, (uint32_t)h->header_bytes);
    write_u8(w, h->dtype);
    write_u8(w, h->rank);
    for (unsigned a = 0; a < h->rank; a++)
        write_varint(w, h->shape[a]);
    write_u8(w, h->kind);
    write_fields(h, w);
}

/* An upper limit of the header's start without its axis field: prologue, shape, every field. */
enum { START_BOUND = 16 + SZD_MAX_RANK * 10 + 256 };

int szd_header_complete(szd_header *h)
{
    int status = check_header(h);
    if (status)
        return status;
    uint8_t start[START_BOUND];
    szd_header plain = *h;
    plain.has_axis = 0;
    writer w = {start, start + sizeof start, false};
    write_start(&plain, &w);
    uint64_t axis = h->has_axis ? 1 + 8 * h->shape[h->axis] : 0;
    uint64_t size = (uint64_t)(w.at - start) + (axis ? axis + 1 + varint_size(axis) : 0) + SZD_INDEX_ENTRY * h->blocks + 4;
    h->header_bytes = size;
    return size <= UINT32_MAX ? SZD_OK : SZD_HEADER_TILES;
}

int szd_header_write(const szd_header *h, const uint8_t *index, uint8_t *out, size_t capacity)
{
    writer w = {out, out + capacity, false};
    write_start(h, &w);
    write_bytes(&w, index, (size_t)(SZD_INDEX_ENTRY * h->blocks));
    size_t before = (size_t)(w.at - out);
    uint8_t *crc = write_room(&w, 4);
    if (!crc)
        return SZD_BUFFER_TOO_SMALL;
    store_u32(crc, szd_crc32c(out, before));
    return before + 4 == h->header_bytes ? SZD_OK : SZD_ARGUMENT;
}

static int read_bound(reader *r, szd_header *h)
{
    unsigned kind_and_flags = read_u8(r);
    uint64_t digits = read_varint(r), exponent = read_varint(r);
    h->bound_kind = kind_and_flags & 15;
    h->bound_flags = kind_and_flags >> 4;
    h->bound_digits = unzigzag(digits);
    h->bound_exponent = (int32_t)unzigzag(exponent & 0xffff);
    if (h->bound_flags & FLAG_RANGE) {
        h->bound_lo = read_f64(r);
        h->bound_hi = read_f64(r);
    }
    return h->bound_kind >= 1 && h->bound_kind <= MAX_BOUND_KIND && h->bound_flags <= 7 && exponent <= 1000 ? SZD_OK : SZD_HEADER_BOUND;
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

static int read_geometric(reader *r, szd_header *h)
{
    if (h->kind != SZD_GEOMETRIC)
        return SZD_HEADER_FIELD;
    uint64_t points = read_varint(r), first = read_varint(r);
    h->has_signs = read_u8(r);
    h->pointwise = read_f64(r);
    if (points > INT32_MAX || first > UINT32_MAX)
        return SZD_HEADER_BOUND;
    h->points_per_octave = (uint32_t)points;
    h->first_index = (int32_t)unzigzag(first);
    return SZD_OK;
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

static int read_field(unsigned id, reader *r, szd_header *h)
{
    static int (*const parsers[])(reader *, szd_header *) = {NULL, read_bound, read_lattice, read_geometric, read_tiles, read_predictor, read_axis};
    int status = parsers[id](r, h);
    if (status)
        return status;
    return r->failed || reader_left(r) ? SZD_HEADER_FIELD : SZD_OK;
}

static int read_fields(reader *r, szd_header *h)
{
    unsigned previous = 0;
    bool lattice_seen = false;
    for (;;) {
        unsigned id = read_u8(r);
        if (r->failed)
            return SZD_HEADER_FIELD;
        if (id == 0)
            return lattice_seen || h->kind == SZD_LOSSLESS ? SZD_OK : SZD_HEADER_FIELD;
        if (id > FIELD_LAST)
            return SZD_NEW_FIELD;
        uint64_t size = read_varint(r);
        const uint8_t *content = read_bytes(r, size);
        if (!content || id <= previous)
            return SZD_HEADER_FIELD;
        reader inner = {content, content + size, false};
        int status = read_field(id, &inner, h);
        if (status)
            return status;
        lattice_seen = lattice_seen || id == FIELD_LATTICE || id == FIELD_GEOMETRIC;
        previous = id;
    }
}

static int read_start(reader *r, szd_header *h)
{
    h->dtype = read_u8(r);
    h->rank = read_u8(r);
    if (h->rank > SZD_MAX_RANK)
        return SZD_HEADER_SHAPE;
    for (unsigned a = 0; a < h->rank; a++)
        h->shape[a] = read_varint(r);
    h->kind = read_u8(r);
    if (r->failed)
        return SZD_HEADER_FIELD;
    if (!dtype_of(h->dtype).element_bytes)
        return SZD_NEW_DTYPE;
    return h->kind > SZD_GEOMETRIC ? SZD_NEW_KIND : read_fields(r, h);
}

/* The blocks' lengths must fill the frame exactly. */
static int check_length(const szd_header *h, const uint8_t *index, size_t size)
{
    uint64_t end = h->header_bytes;
    for (uint64_t b = 0; b < h->blocks; b++)
        end += load_u32(index + SZD_INDEX_ENTRY * b);
    return end > size ? SZD_TRUNCATED : end < size ? SZD_TRAILING : SZD_OK;
}

int szd_header_read(const uint8_t *frame, size_t size, szd_header *h)
{
    memset(h, 0, sizeof *h);
    if (memcmp(frame, MAGIC, size < sizeof MAGIC ? size : sizeof MAGIC) != 0)
        return SZD_MAGIC;
    if (size < PROLOGUE + 4)
        return SZD_TRUNCATED;
    if (frame[4] != VERSION)
        return SZD_NEW_VERSION;
    uint32_t header_bytes = load_u32(frame + 5);
    if (header_bytes > size)
        return SZD_TRUNCATED;
    if (header_bytes < PROLOGUE + 4 || load_u32(frame + header_bytes - 4) != szd_crc32c(frame, header_bytes - 4))
        return SZD_HEADER_CRC;
    reader r = {frame + PROLOGUE, frame + header_bytes - 4, false};
    int status = read_start(&r, h);
    if (status == SZD_OK)
        status = check_header(h);
    if (status)
        return status;
    h->header_bytes = header_bytes;
    if (reader_left(&r) / SZD_INDEX_ENTRY != h->blocks || reader_left(&r) % SZD_INDEX_ENTRY)
        return SZD_HEADER_FIELD;
    return check_length(h, r.at, size);
}
