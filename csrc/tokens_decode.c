/* Symbols, raw low bits and escapes back to residuals (FORMAT.md, section 6, step 4), chunk by chunk. Nothing is
 * trusted. */
#include "internal.h"

/* A list of Exp-Golomb numbers: order, length, bits. */
int begin_list(reader *r, bit_reader *b, unsigned *order)
{
    *order = read_u8(r);
    uint64_t size = read_varint(r);
    const uint8_t *p = read_bytes(r, size);
    if (!p)
        return SZD_BLOCK_SHORT;
    *b = (bit_reader){p, p + size, 0, 0, false};
    return *order <= 40 ? SZD_OK : SZD_BLOCK_NUMBERS;
}

bool list_finished(bit_reader *b) { return end_bits(b) == b->end && !b->failed; }

static int begin_escapes(token_decoder *d, reader *r, size_t n)
{
    d->escapes_left = read_varint(r);
    d->escape_order = read_u8(r);
    uint64_t size = read_varint(r);
    const uint8_t *p = read_bytes(r, size);
    if (!p)
        return SZD_BLOCK_SHORT;
    d->escape_bits = (bit_reader){p, p + size, 0, 0, false};
    return d->escapes_left >= 1 && d->escapes_left <= n && d->escape_order <= 40 ? SZD_OK : SZD_BLOCK_ESCAPES;
}

/* Of others than a dominant value there are no rows. */
static int begin_symbols(token_decoder *d, reader *r, size_t n, uint32_t isa, uint8_t *scratch)
{
    return d->dominant ? symbols_begin_unsorted(&d->symbols, r, n, isa, scratch)
                       : symbols_begin(&d->symbols, r, n, isa, scratch);
}

static int begin_direct(token_decoder *d, reader *r, size_t n, uint32_t isa, uint8_t *scratch)
{
    d->k = read_u8(r);
    uint64_t base = read_varint(r);
    unsigned flags = read_u8(r);
    if (r->failed)
        return SZD_BLOCK_SHORT;
    if (d->k > MAX_K || base > UINT32_MAX || flags > 1)
        return SZD_BLOCK_NUMBERS;
    d->base = (int32_t)unzigzag(base);
    d->escapes = flags & 1;
    d->escapes_left = 0;
    int status = d->escapes ? begin_escapes(d, r, n) : SZD_OK;
    if (status == SZD_OK)
        status = numbers_begin(&d->low, r, n, d->k);
    return status ? status : begin_symbols(d, r, n, isa, scratch);
}

int tokens_begin_short(token_decoder *d, reader *r, size_t n, unsigned k, bool has_base)
{
    uint64_t base = has_base ? read_varint(r) : zigzag(SHORT_BASE);
    d->form = FORM_DIRECT;
    d->dominant = d->escapes = false;
    d->escapes_left = 0;
    d->k = k;
    d->base = (int32_t)unzigzag(base);
    if (r->failed || base > UINT32_MAX)
        return r->failed ? SZD_BLOCK_SHORT : SZD_BLOCK_NUMBERS;
    int status = numbers_begin(&d->low, r, n, k);
    return status ? status : symbols_begin_short(&d->symbols, r);
}

/* Rising values; a sum that leaves 32 bits is damage. */
static int begin_palette(token_decoder *d, reader *r, size_t n, uint32_t isa, uint8_t *scratch)
{
    d->entries = read_u8(r) + 1u;
    uint64_t first = read_varint(r);
    bit_reader b = {NULL, NULL, 0, 0, false};
    unsigned order = 0;
    if (r->failed || first > UINT32_MAX)
        return r->failed ? SZD_BLOCK_SHORT : SZD_BLOCK_NUMBERS;
    int64_t value = unzigzag(first);
    d->palette[0] = (int32_t)value;
    if (d->entries > 1) {
        int status = begin_list(r, &b, &order);
        if (status)
            return status;
        for (unsigned i = 1; i < d->entries; i++) {
            uint64_t step = get_exp_golomb(&b, order);
            if (b.failed || step > UINT32_MAX || (value += (int64_t)step + 1) > INT32_MAX)
                return SZD_BLOCK_NUMBERS;
            d->palette[i] = (int32_t)value;
        }
        if (!list_finished(&b))
            return SZD_BLOCK_NUMBERS;
    }
    return begin_symbols(d, r, n, isa, scratch);
}

static int begin_dominant(token_decoder *d, reader *r, size_t n, uint32_t isa, uint8_t *scratch)
{
    uint64_t value = read_varint(r), others = read_varint(r);
    if (r->failed)
        return SZD_BLOCK_SHORT;
    if (value > UINT32_MAX || others > n)
        return SZD_BLOCK_NUMBERS;
    d->dominant_value = (int32_t)unzigzag(value);
    d->others = (size_t)others;
    return symbols_begin_unsorted(&d->flags, r, n, isa, scratch);
}

int tokens_begin(token_decoder *d, reader *r, size_t n, token_rows rows, uint32_t isa, uint8_t *scratch)
{
    d->escapes_left = 0;
    d->escapes = false;
    d->symbols.from = d->symbols.coder = 0;
    d->form = read_u8(r);
    d->dominant = d->form == FORM_DOMINANT;
    if (d->dominant) {
        int status = begin_dominant(d, r, n, isa, scratch);
        if (status || d->others == 0)
            return status;
        scratch = scratch ? scratch + symbols_unsorted_scratch(n) : NULL;
        n = d->others;
        d->form = read_u8(r);
    }
    if (r->failed)
        return SZD_BLOCK_SHORT;
    switch (d->form) {
    case FORM_DIRECT: return begin_direct(d, r, n, isa, scratch);
    case FORM_PALETTE: return begin_palette(d, r, n, isa, scratch);
    case FORM_MIXED:
        if (!rows.mixed || d->dominant)
            return SZD_BLOCK_NUMBERS;
        return mix_justified(n, reader_left(r)) ? mix_begin(&d->mix, r, rows.width, rows.phase, scratch)
                                                : SZD_BLOCK_CODES;
    default: return SZD_BLOCK_NUMBERS;
    }
}

/* The next escape's high part. */
static int next_escape(token_decoder *d, int32_t *high)
{
    uint64_t u = d->escapes_left ? get_exp_golomb(&d->escape_bits, d->escape_order) : UINT64_MAX;
    if (d->escape_bits.failed || u > UINT32_MAX)
        return SZD_BLOCK_ESCAPES;
    d->escapes_left--;
    *high = (int32_t)unzigzag(u);
    return SZD_OK;
}

/* Escapes are rare: found by a second look at the symbols. They go to `out`, or to `values` of the lattice. */
static int patch_escapes(token_decoder *d, const uint8_t *symbols, const packed_run *low, int32_t *out,
                         const lattice *l, uint8_t *values)
{
    const uint8_t *at = symbols, *end = symbols + low->n;
    for (; at < end && (at = memchr(at, 0, (size_t)(end - at))) != NULL; at++) {
        int32_t high;
        size_t i = (size_t)(at - symbols);
        int status = next_escape(d, &high);
        if (status)
            return status;
        int32_t r = residual_of(high, low, i);
        if (out)
            out[i] = r;
        else
            lattice_reconstruct(l, &r, NULL, 0, 1, values + i * dtype_of(l->dtype).element_bytes);
    }
    return SZD_OK;
}

/* Segment by segment, to `out` or to `values`. */
static int decode_direct_part(token_decoder *d, const uint8_t *symbols, size_t n, uint32_t isa, int32_t *out,
                              const lattice *l, uint8_t *values)
{
    packed_run low;
    int status = SZD_OK;
    for (size_t done = 0; done < n && status == SZD_OK; done += low.n) {
        numbers_next(&d->low, n - done, isa, &low);
        int32_t *to = out ? out + done : NULL;
        uint8_t *place = out ? NULL : values + done * dtype_of(l->dtype).element_bytes;
        if (out)
            residuals_join(symbols + done, (uint32_t)d->base, &low, isa, to);
        else
            residuals_to_values(symbols + done, (uint32_t)d->base, &low, l, place);
        if (d->escapes)
            status = patch_escapes(d, symbols + done, &low, to, l, place);
    }
    return status;
}

static int decode_numbered(const token_decoder *d, const uint8_t *symbols, int32_t *out, size_t n)
{
    unsigned worst = 0;
    for (size_t i = 0; i < n; i++) {
        worst = symbols[i] > worst ? symbols[i] : worst;
        out[i] = d->palette[symbols[i]];
    }
    return worst < d->entries ? SZD_OK : SZD_BLOCK_NUMBERS;
}

/* n <= CHUNK */
static int decode_plain_part(token_decoder *d, int32_t *out, size_t n, uint32_t isa)
{
    const uint8_t *symbols = symbols_next(&d->symbols, d->buffer, n, isa);
    if (!symbols)
        return SZD_BLOCK_CODES;
    return d->form == FORM_PALETTE ? decode_numbered(d, symbols, out, n)
                                   : decode_direct_part(d, symbols, n, isa, out, NULL, NULL);
}

bool tokens_are_direct(const token_decoder *d) { return d->form == FORM_DIRECT && !d->dominant; }

int tokens_decode_values(token_decoder *d, const lattice *l, size_t n, uint8_t *values)
{
    const uint8_t *symbols = symbols_next(&d->symbols, d->buffer, n, l->isa);
    return symbols ? decode_direct_part(d, symbols, n, l->isa, NULL, l, values) : SZD_BLOCK_CODES;
}

/* How many flags are 1; SIZE_MAX where one is neither 0 nor 1. */
static size_t count_flags(const uint8_t *flags, size_t n)
{
    size_t m = 0;
    unsigned all = 0;
    for (size_t i = 0; i < n; i++) {
        all |= flags[i];
        m += flags[i];
    }
    return all > 1 ? SIZE_MAX : m;
}

/* Values go where flags are 1, in their order. */
static void scatter(const uint8_t *flags, size_t n, const int32_t *values, int32_t *out)
{
    size_t i = 0;
    for (; n - i >= 8; i += 8)
        for (uint64_t eight = load_u64(flags + i); eight; eight &= eight - 1)
            out[i + (unsigned)__builtin_ctzll(eight) / 8] = *values++;
    for (; i < n; i++)
        if (flags[i])
            out[i] = *values++;
}

/* The others first, which then find their places. */
static int decode_dominant_part(token_decoder *d, int32_t *out, size_t n, uint32_t isa)
{
    const uint8_t *flags = symbols_next(&d->flags, d->flag_buffer, n, isa);
    size_t m = flags ? count_flags(flags, n) : SIZE_MAX;
    if (m > d->others)
        return SZD_BLOCK_CODES;
    d->others -= m;
    int status = m ? decode_plain_part(d, d->other_values, m, isa) : SZD_OK;
    for (size_t i = 0; i < n; i++)
        out[i] = d->dominant_value;
    if (status == SZD_OK)
        scatter(flags, n, d->other_values, out);
    return status;
}

static int decode_part(token_decoder *d, int32_t *out, size_t n, uint32_t isa)
{
    if (d->form == FORM_MIXED)
        return mix_decode(&d->mix, out, n);
    return d->dominant ? decode_dominant_part(d, out, n, isa) : decode_plain_part(d, out, n, isa);
}

int tokens_decode(token_decoder *d, int32_t *out, size_t n, uint32_t isa)
{
    int status = SZD_OK;
    for (size_t done = 0; done < n && status == SZD_OK; done += CHUNK)
        status = decode_part(d, out + done, n - done < CHUNK ? n - done : CHUNK, isa);
    return status;
}

bool tokens_finished(token_decoder *d)
{
    if (d->form == FORM_MIXED)
        return mix_finished(&d->mix);
    if (d->dominant && (d->others || !symbols_finished(&d->flags)))
        return false;
    if (d->escapes && (d->escapes_left || end_bits(&d->escape_bits) != d->escape_bits.end || d->escape_bits.failed))
        return false;
    return symbols_finished(&d->symbols);
}
