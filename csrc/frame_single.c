/* The layout of small frames (FORMAT.md, section 2.2): at most one block, one checksum over all of it, flags and short
 * numbers instead of fields. */
#include "frame.h"

static const uint8_t SINGLE_MAGIC[2] = {0xF5, 's'};
enum { SINGLE_PROLOGUE = 5, LEAST_SINGLE = SINGLE_PROLOGUE + 2 + 4 };
enum { RANK_MASK = 15, HAS_BOUND = 16, HAS_FIELDS = 32, IS_MIXED = 64, SHORT_LATTICE = 128 };
enum { POWER_OF_TEN = 128, COUNT_MASK = 15, HAS_WIDE_BITS = 16, HAS_STEP = 32, SHORT_EPS = 3, MOST_DTYPE = 63 };

bool is_single(const uint8_t *frame, size_t size)
{
    return size >= sizeof SINGLE_MAGIC && memcmp(frame, SINGLE_MAGIC, sizeof SINGLE_MAGIC) == 0;
}

/* The bound's parameter, digits x 10^exponent, where one rounding of exact numbers makes it. */
static bool decimal_value(const szd_header *h, double *v)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    int32_t e = h->bound_exponent;
    if (!h->bound_kind || h->bound_digits < 1 || h->bound_digits > (int64_t)1 << 53 || e < -22 || e > 22)
        return false;
    *v = e < 0 ? (double)h->bound_digits / powers[-e] : (double)h->bound_digits * powers[e];
    return true;
}

/* How many of a number's highest bytes say it all; 0 where it is the bound's parameter. */
static unsigned number_bytes(const szd_header *h, double v)
{
    double decimal;
    uint8_t bytes[8];
    unsigned zeros = 0;
    if (decimal_value(h, &decimal) && decimal == v)
        return 0;
    store_f64(bytes, v);
    while (zeros < 7 && !bytes[zeros])
        zeros++;
    return 8 - zeros;
}

static void write_number(double v, unsigned count, writer *w)
{
    uint8_t bytes[8];
    store_f64(bytes, v);
    write_bytes(w, bytes + 8 - count, count);
}

/* 0 where there is none, which no field of a header may be. */
static double read_number(const szd_header *h, unsigned count, reader *r)
{
    uint8_t bytes[8] = {0};
    double v = 0;
    if (count == 0)
        return decimal_value(h, &v) ? v : 0;
    const uint8_t *p = count <= 8 ? read_bytes(r, count) : NULL;
    if (!p)
        return 0;
    memcpy(bytes + 8 - count, p, count);
    return load_f64(bytes);
}

static bool is_short_lattice(const szd_header *h)
{
    unsigned count = number_bytes(h, h->eps);
    return count && count <= SHORT_EPS && h->wide_bits == 0 && h->step == default_step(h);
}

static void write_short_bound(const szd_header *h, writer *w)
{
    int64_t digits = h->bound_digits, exponent = h->bound_exponent;
    if (digits == 1 && exponent <= 0 && exponent >= -15 && !h->bound_flags) {
        write_u8(w, POWER_OF_TEN | h->bound_kind << 4 | (unsigned)-exponent);
        return;
    }
    if (h->bound_kind == BOUND_ABS && digits == 0 && exponent == 0 && !h->bound_flags) {
        write_u8(w, POWER_OF_TEN);
        return;
    }
    write_u8(w, h->bound_kind | h->bound_flags << 4);
    if (digits >= 1 && digits <= 15 && exponent <= 0 && exponent >= -15) {
        write_u8(w, (unsigned)(digits << 4 | -exponent));
    } else {
        write_u8(w, 0);
        write_varint(w, zigzag(digits));
        write_varint(w, zigzag(exponent));
    }
    write_bound_range(h, w);
}

static int read_short_bound(reader *r, szd_header *h)
{
    unsigned kind_and_flags = read_u8(r);
    if (kind_and_flags == POWER_OF_TEN) /* eps itself */
        return set_bound(BOUND_ABS, 0, 0, r, h);
    if (kind_and_flags & POWER_OF_TEN)
        return set_bound(kind_and_flags >> 4 & 7, zigzag(1), zigzag(-(int64_t)(kind_and_flags & 15)), r, h);
    unsigned decimal = read_u8(r);
    uint64_t digits = decimal >> 4 ? (decimal >> 4) << 1 : 0, exponent = zigzag(-(int64_t)(decimal & 15));
    if (decimal && !digits)
        return SZD_HEADER_BOUND;
    if (!decimal) {
        digits = read_varint(r);
        exponent = read_varint(r);
    }
    return set_bound(kind_and_flags, digits, exponent, r, h);
}

static void write_short_lattice(const szd_header *h, writer *w)
{
    bool has_step = h->step != default_step(h);
    unsigned count = number_bytes(h, h->eps);
    write_u8(w, count | (h->wide_bits ? HAS_WIDE_BITS : 0) | (has_step ? HAS_STEP : 0));
    write_number(h->eps, count, w);
    if (h->wide_bits)
        write_u8(w, h->wide_bits);
    if (has_step)
        write_f64(w, h->step);
}

static int read_short_lattice(reader *r, szd_header *h, bool is_short)
{
    unsigned flags = is_short ? SHORT_EPS : read_u8(r);
    if (flags & ~(unsigned)(COUNT_MASK | HAS_WIDE_BITS | HAS_STEP))
        return SZD_HEADER_FIELD;
    h->eps = read_number(h, flags & COUNT_MASK, r);
    h->wide_bits = flags & HAS_WIDE_BITS ? read_u8(r) : 0;
    h->step = flags & HAS_STEP ? read_f64(r) : positive(h->eps) ? default_step(h) : 0;
    return SZD_OK;
}

static void write_short_geometric(const szd_header *h, writer *w)
{
    unsigned count = number_bytes(h, h->pointwise);
    write_varint(w, h->points_per_octave);
    write_varint(w, zigzag(h->first_index));
    write_u8(w, h->has_signs | count << 4);
    write_number(h->pointwise, count, w);
}

static int read_short_geometric(reader *r, szd_header *h)
{
    uint64_t points = read_varint(r), first = read_varint(r);
    unsigned signs = read_u8(r);
    return set_geometric(points, first, signs & 15, read_number(h, signs >> 4, r), h);
}

void write_single_start(const szd_header *h, uint64_t frame_bytes, writer *w)
{
    bool linear = h->kind == SZD_LINEAR32 || h->kind == SZD_LINEAR64, is_short = linear && is_short_lattice(h);
    unsigned rank = h->rank < RANK_MASK ? h->rank : RANK_MASK;
    write_bytes(w, SINGLE_MAGIC, sizeof SINGLE_MAGIC);
    write_u8(w, VERSION);
    write_u8(w, (unsigned)(frame_bytes - 1) & 0xff);
    write_u8(w, (unsigned)(frame_bytes - 1) >> 8 & 0xff);
    write_u8(w, h->dtype | h->kind << 6);
    write_u8(w, rank | (h->bound_kind ? HAS_BOUND : 0) | (has_fields(h) ? HAS_FIELDS : 0) | (h->mixed ? IS_MIXED : 0) |
                    (is_short ? SHORT_LATTICE : 0));
    if (rank == RANK_MASK)
        write_u8(w, h->rank);
    for (unsigned a = 0; a < h->rank; a++)
        write_varint(w, h->shape[a]);
    if (h->bound_kind)
        write_short_bound(h, w);
    if (is_short)
        write_number(h->eps, SHORT_EPS, w);
    else if (linear)
        write_short_lattice(h, w);
    else if (h->kind == SZD_GEOMETRIC)
        write_short_geometric(h, w);
    if (has_fields(h))
        write_fields(h, w);
}

static int read_lattice_of(unsigned flags, reader *r, szd_header *h)
{
    bool is_short = flags & SHORT_LATTICE;
    if (h->kind == SZD_LINEAR32 || h->kind == SZD_LINEAR64)
        return read_short_lattice(r, h, is_short);
    if (is_short)
        return SZD_HEADER_FIELD;
    return h->kind == SZD_GEOMETRIC ? read_short_geometric(r, h) : SZD_OK;
}

static int read_start(reader *r, szd_header *h)
{
    unsigned dtype_and_kind = read_u8(r), flags = read_u8(r);
    h->dtype = dtype_and_kind & MOST_DTYPE;
    h->kind = dtype_and_kind >> 6;
    h->rank = (flags & RANK_MASK) == RANK_MASK ? read_u8(r) : flags & RANK_MASK;
    h->mixed = (flags & IS_MIXED) != 0;
    int status = read_shape(r, h);
    if (status)
        return status;
    if (h->mixed && h->kind == SZD_LOSSLESS)
        return SZD_HEADER_FIELD;
    if (flags & HAS_BOUND)
        status = read_short_bound(r, h);
    if (status == SZD_OK)
        status = read_lattice_of(flags, r, h);
    if (status == SZD_OK && flags & HAS_FIELDS)
        status = read_fields(r, h, FIELD_TILES, FIELD_PREDICTOR);
    return status ? status : r->failed ? SZD_HEADER_FIELD : SZD_OK;
}

int read_single(const uint8_t *frame, size_t size, szd_header *h)
{
    if (size < LEAST_SINGLE)
        return size > 2 && frame[2] != VERSION ? SZD_NEW_VERSION : SZD_TRUNCATED;
    if (frame[2] != VERSION)
        return SZD_NEW_VERSION;
    size_t length = load_u16(frame + 3) + (size_t)1;
    if (length != size)
        return length > size ? SZD_TRUNCATED : SZD_TRAILING;
    if (load_u32(frame + size - 4) != szd_crc32c(frame, size - 4))
        return SZD_FRAME_CRC;
    reader r = {frame + SINGLE_PROLOGUE, frame + size - 4, false};
    h->single = 1;
    int status = read_start(&r, h);
    if (status == SZD_OK)
        status = check_header(h);
    if (status)
        return status;
    h->header_bytes = (uint64_t)(r.at - frame);
    bool fits = h->blocks == 1 ? reader_left(&r) > 0 : h->blocks == 0 && reader_left(&r) == 0;
    return fits && (h->predictor != SZD_PREDICT_REFERENCE || h->reference_count == h->blocks) ? SZD_OK
                                                                                              : SZD_HEADER_FIELD;
}

int szd_frame_single(const szd_header *h, const uint8_t *block, size_t size, uint8_t *out, size_t capacity)
{
    uint64_t total = h->header_bytes + size + 4;
    if (!h->single || total > SZD_MAX_SINGLE)
        return SZD_ARGUMENT;
    if (total > capacity)
        return SZD_BUFFER_TOO_SMALL;
    writer w = {out, out + h->header_bytes, false};
    fp_environment saved = fp_enter();
    write_single_start(h, total, &w);
    fp_leave(saved);
    if (w.failed || w.at != w.end)
        return SZD_ARGUMENT;
    memcpy(w.at, block, size);
    store_u32(w.at + size, szd_crc32c(out, (size_t)total - 4));
    return SZD_OK;
}
