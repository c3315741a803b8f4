/* Writing a frame's header (FORMAT.md, section 2). */
#include "frame.h"

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

void write_bound_range(const szd_header *h, writer *w)
{
    if (h->bound_flags & FLAG_RANGE) {
        write_f64(w, h->bound_lo);
        write_f64(w, h->bound_hi);
    }
}

static void write_bound(const szd_header *h, writer *w)
{
    field f;
    field_begin(&f);
    write_u8(&f.w, h->bound_kind | h->bound_flags << 4);
    write_varint(&f.w, zigzag(h->bound_digits));
    write_varint(&f.w, zigzag(h->bound_exponent));
    write_bound_range(h, &f.w);
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
    if (h->predictor == SZD_PREDICT_REPEAT)
        write_varint(&f.w, h->lag);
    if (h->predictor == SZD_PREDICT_INTERPOLATION && h->snap)
        write_u8(&f.w, h->snap);
    field_end(&f, FIELD_PREDICTOR, w);
}

/* Longer than a field's buffer. */
static void write_reference(const szd_header *h, writer *w)
{
    write_u8(w, FIELD_PREDICTOR);
    write_varint(w, 2 + 8 * h->reference_count);
    write_u8(w, h->predictor);
    write_u8(w, h->reference_dtype);
    write_bytes(w, h->reference_digests, 8 * h->reference_count);
}

/* The content of the field of bounds along an axis. */
static uint64_t axis_bytes(const szd_header *h)
{
    uint64_t extent = h->shape[h->axis];
    return h->axis_index ? 2 + 8 * (uint64_t)h->axis_values + extent : 1 + 8 * extent;
}

static void write_axis(const szd_header *h, writer *w)
{
    write_u8(w, FIELD_AXIS);
    write_varint(w, axis_bytes(h));
    write_u8(w, h->axis);
    write_bytes(w, h->axis_eps, 8 * h->shape[h->axis]);
}

static void write_axis_table(const szd_header *h, writer *w)
{
    write_u8(w, FIELD_AXIS_TABLE);
    write_varint(w, axis_bytes(h));
    write_u8(w, h->axis);
    write_u8(w, (uint8_t)(h->axis_values - 1));
    write_bytes(w, h->axis_eps, 8 * (uint64_t)h->axis_values);
    write_bytes(w, h->axis_index, h->shape[h->axis]);
}

bool has_fields(const szd_header *h) { return !tiles_are_default(h) || h->predictor || h->has_axis; }

void write_fields(const szd_header *h, writer *w)
{
    if (!tiles_are_default(h))
        write_tiles(h, w);
    if (h->predictor == SZD_PREDICT_REFERENCE)
        write_reference(h, w);
    else if (h->predictor)
        write_predictor(h, w);
    if (h->has_axis && !h->axis_index)
        write_axis(h, w);
    if (h->mixed && !h->single) {
        write_u8(w, FIELD_MIXED);
        write_varint(w, 0);
    }
    if (h->has_axis && h->axis_index)
        write_axis_table(h, w);
    write_u8(w, 0);
}

/* The header up to its block index. */
static void write_start(const szd_header *h, writer *w)
{
    write_bytes(w, MAGIC, sizeof MAGIC);
    write_u8(w, VERSION);
    write_varint(w, h->header_bytes);
    write_u8(w, h->dtype);
    write_u8(w, h->rank);
    for (unsigned a = 0; a < h->rank; a++)
        write_varint(w, h->shape[a]);
    write_u8(w, h->kind);
    if (h->bound_kind)
        write_bound(h, w);
    if (h->kind)
        write_lattice(h, w);
    write_fields(h, w);
}

/* An upper limit of the header's start without its axis field and a reference's digests: prologue, shape, every field.
 */
enum { START_BOUND = 16 + SZD_MAX_RANK * 10 + 256 };

static void complete_single(szd_header *h)
{
    uint8_t start[START_BOUND];
    szd_header plain = *h;
    plain.reference_count = 0;
    writer w = {start, start + sizeof start, false};
    write_single_start(&plain, 1, &w);
    h->header_bytes = (uint64_t)(w.at - start) + 8 * h->reference_count;
}

static int complete(szd_header *h)
{
    int status = check_header(h);
    if (status)
        return status;
    h->single = h->single && h->blocks <= 1 && !h->has_axis;
    uint8_t start[START_BOUND];
    szd_header plain = *h;
    plain.has_axis = 0;
    plain.reference_count = 0;
    h->reference_count = h->predictor == SZD_PREDICT_REFERENCE ? h->blocks : 0;
    if (h->single) {
        complete_single(h);
        return SZD_OK;
    }
    plain.header_bytes = 0; /* which takes one byte */
    writer w = {start, start + sizeof start, false};
    write_start(&plain, &w);
    uint64_t axis = h->has_axis ? axis_bytes(h) : 0;
    uint64_t digests = h->reference_count ? 2 + 8 * h->reference_count : 0;
    uint64_t size = (uint64_t)(w.at - start) + (digests ? digests - 2 + varint_size(digests) - 1 : 0) +
                    (axis ? axis + 1 + varint_size(axis) : 0) + SZD_INDEX_ENTRY * h->blocks + 4;
    h->header_bytes = size;
    while (h->header_bytes != size - 1 + varint_size(h->header_bytes)) /* the length counts itself */
        h->header_bytes = size - 1 + varint_size(h->header_bytes);
    return size <= UINT32_MAX ? SZD_OK : SZD_HEADER_TILES;
}

int szd_header_complete(szd_header *h)
{
    fp_environment saved = fp_enter();
    int status = complete(h);
    fp_leave(saved);
    return status;
}

int szd_header_write(const szd_header *h, const uint8_t *index, uint8_t *out, size_t capacity)
{
    writer w = {out, out + capacity, false};
    fp_environment saved = fp_enter();
    write_start(h, &w);
    fp_leave(saved);
    write_bytes(&w, index, (size_t)(SZD_INDEX_ENTRY * h->blocks));
    size_t before = (size_t)(w.at - out);
    uint8_t *crc = write_room(&w, 4);
    if (!crc)
        return SZD_BUFFER_TOO_SMALL;
    store_u32(crc, szd_crc32c(out, before));
    return before + 4 == h->header_bytes ? SZD_OK : SZD_ARGUMENT;
}
