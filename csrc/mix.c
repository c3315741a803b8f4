/* Residuals by context mixing (FORMAT.md, section 9): smaller than tables of frequencies, and far slower.
 *
 * Every value is coded as a few binary decisions: how its magnitude compares with powers of two around the magnitude
 * expected there, then its leading bits, then its sign. Seven models predict each decision from estimates of the
 * scale (of the row, of the column, of both, of the neighbours ...); two mixers weigh them, in the domain of
 * log-odds, by what has worked so far (after Mahoney's PAQ). The scales of rows and columns follow the data, so that
 * nothing but one byte is sent ahead. Encoder and decoder are one function, compiled with `decode` constant.
 */
#include "mix_range.h"

/* The log-odds of a 1. A weight is the sum of two, one chosen by the decision, one by what is known of row and column.
 * Each stays within 7/8, so that the sum of seven products with inputs of at most 2341 fits 32 bits. */
INLINE int32_t mix_predict(const int32_t *inputs, const mix_weights *a, const mix_weights *b)
{
    int32_t x = 0;
    for (unsigned i = 0; i < 8; i++)
        x += inputs[i] * (a->of[i] + b->of[i]);
    return clamp_i32(x >> 16, -MIX_STRETCH, MIX_STRETCH);
}

INLINE int32_t limit_weight(int32_t v)
{
    v = v < -57344 ? -57344 : v;
    return v > 57344 ? 57344 : v;
}

INLINE void mix_learn(mix_weights *a, mix_weights *b, const int32_t *inputs, int32_t error, int32_t rate)
{
    int32_t step = error * rate >> 6;
    for (unsigned i = 0; i < 8; i++) {
        int32_t change = (inputs[i] * step + 32768) >> 16;
        a->of[i] = limit_weight(a->of[i] + change);
        b->of[i] = limit_weight(b->of[i] + change);
    }
}

INLINE void slot_learn(const mix_tables *t, uint32_t *slot, unsigned bit)
{
    uint32_t used = *slot & 1023;
    int32_t p = (int32_t)(*slot >> 10);
    p += (int32_t)((int64_t)(((int32_t)bit << 22) - p) * t->rate[used] >> 16);
    *slot = (uint32_t)p << 10 | (used + (used < 1000));
}

/* One decision with n models, whose slots are given. */
INLINE unsigned mix_bit(mix_model *m, bool decode, unsigned bit, uint32_t *const *slots, unsigned n, mix_weights *a,
                        mix_weights *b, int32_t rate)
{
    int32_t inputs[8] = {0};
    for (unsigned i = 0; i < n; i++)
        inputs[i] = m->t.stretch[*slots[i] >> 20];
    uint32_t p = m->t.squash[MIX_STRETCH + mix_predict(inputs, a, b)];
    bit = range_bit(&m->coder, decode, bit, p);
    mix_learn(a, b, inputs, (int32_t)(bit << 16) - (int32_t)p, rate);
    for (unsigned i = 0; i < n; i++)
        slot_learn(&m->t, slots[i], bit);
    return bit;
}

INLINE unsigned node_bit(mix_model *m, bool decode, const mix_place *p, unsigned node, unsigned bit)
{
    uint32_t *slots[MIX_MODELS];
    for (unsigned i = 0; i < MIX_MODELS; i++)
        slots[i] = p->rows[i] + node;
    int32_t rate = m->t.learn[m->used[node]];
    m->used[node] = (uint8_t)(m->used[node] + (m->used[node] < 255));
    return mix_bit(m, decode, bit, slots, MIX_MODELS, &m->by_node[node * 4 + p->kind], p->trust, rate);
}

static inline unsigned level_of(int32_t scale)
{
    return (unsigned)clamp_i32((scale + 6 * 256) >> 5, 0, MIX_LEVELS - 1);
}

/* 0, 1 or 2: how large a neighbour was. */
static inline unsigned size_class(int32_t size) { return (unsigned)(size > 200) + (unsigned)(size > 500); }

/* The row of each model's slots; `near` is the logarithm of the neighbours' sizes. */
INLINE void find_rows(mix_model *m, mix_place *p, int32_t near)
{
    const mix_column *c = &m->columns[m->column + 1];
    int32_t base = (int32_t)p->shift << 8, here = p->scale - base, row = (m->row_scale >> 8) - base;
    unsigned spread = (unsigned)clamp_i32((c->scale >> 14) + 12, 0, 31) * 12 + (level_of(row) >> 3);
    unsigned bias = (unsigned)clamp_i32((mix_quantise(p->mean < 0 ? -p->mean : p->mean) - 16) / 2 - 4, 0, 3);
    unsigned at[MIX_MODELS] = {
        level_of(here) * 4 + size_class(c->size) * MIX_ROW,
        level_of(here) * 4 + bias * MIX_ROW + 3 * MIX_ROW,
        spread + 7 * MIX_ROW,
        level_of(here + near / 2) * 4 + 8 * MIX_ROW,
        level_of(here + (c->trend >> 8)) * 4 + 9 * MIX_ROW,
        level_of(row) * 4 + 10 * MIX_ROW,
        level_of(((m->mean_scale + c->scale) >> 8) - base) * 4 + 11 * MIX_ROW,
    };
    for (unsigned i = 0; i < MIX_MODELS; i++)
        p->rows[i] = m->slots[at[i] + (i == 2 ? 0 : p->kind)];
}

INLINE void find_place(mix_model *m, mix_place *p)
{
    const mix_column *c = &m->columns[m->column + 1];
    p->scale = clamp_i32((m->row_scale + c->scale) >> 8, -2047, 23 * 256);
    int32_t octave = p->scale >> 8;
    p->shift = (unsigned)(octave > 2 ? octave - 2 : 0);
    p->kind = p->shift < 3 ? p->shift : 3;
    p->start = (unsigned)clamp_i32(octave, 0, 2);
    p->along = 0;
    for (unsigned k = 0; k < MIX_AXES; k++) {
        if ((m->column & 3) == 0)
            m->share[k] = clamp_i32(m->along[k] * 4096 / (m->length[k] + 81920), -65536, 65536);
        p->parts[k] = (int32_t)((int64_t)m->share[k] * c->axes[k] >> 12);
        p->along += p->parts[k];
    }
    p->mean = c->mean + p->along;
    uint32_t near = 2 * m->left + m->left2 + (uint32_t)(2 * c->size + c[-1].size + c[1].size);
    unsigned place = bit_length(m->column + 1) - 1, seen = bit_length((uint32_t)(c->info >> 8) + 1) - 1;
    p->trust = &m->by_trust[(place < 8 ? place : 8) * 8 + (seen < 7 ? seen : 7)];
    find_rows(m, p, mix_log2(near + 64) - mix_log2(7 * 256 + 64));
}

/* The bit length of the magnitude >> shift, MIX_ESCAPE standing for more: upwards or downwards from where it is
 * expected. */
INLINE unsigned code_class(mix_model *m, bool decode, const mix_place *p, uint32_t a)
{
    uint32_t b = a >> p->shift;
    unsigned e = p->start;
    if (node_bit(m, decode, p, 20 + e, b >> e != 0)) {
        e++;
        while (e < MIX_ESCAPE && node_bit(m, decode, p, e, b >> e != 0))
            e++;
    } else {
        while (e > 0 && !node_bit(m, decode, p, 15 + e, b >> (e - 1) != 0))
            e--;
    }
    return e;
}

/* `count` <= 31 bits, the higher ones first. */
INLINE uint32_t code_raw(mix_model *m, bool decode, uint32_t v, unsigned count)
{
    uint32_t high = 0;
    if (count > 16) {
        high = range_raw(&m->coder, decode, v >> 16 & ((1u << (count - 16)) - 1), count - 16) << 16;
        count = 16;
    }
    return count ? high | range_raw(&m->coder, decode, v & ((1u << count) - 1), count) : high;
}

/* A damaged stream may claim a magnitude of more than 32 bits. */
INLINE bool too_long(mix_model *m, unsigned below)
{
    m->coder.failed |= below > 31;
    return below > 31;
}

INLINE uint32_t code_escape(mix_model *m, bool decode, const mix_place *p, uint32_t a)
{
    unsigned more = range_raw(&m->coder, decode, decode ? 0 : bit_length(a >> p->shift) - MIX_ESCAPE, 5);
    unsigned below = more + MIX_ESCAPE - 1 + p->shift;
    if (too_long(m, below))
        return 0;
    return 1u << below | code_raw(m, decode, a & ((1u << below) - 1), below);
}

INLINE uint32_t code_magnitude(mix_model *m, bool decode, const mix_place *p, uint32_t a)
{
    unsigned e = code_class(m, decode, p, a);
    if (e == MIX_ESCAPE)
        return code_escape(m, decode, p, a);
    unsigned below = (e ? e - 1 : 0) + p->shift, modelled = e < 2 ? 1 : e == 2 ? 2 : 3;
    unsigned node = 24 + (e < 4 ? e : 4) * 8, path = 1;
    modelled = modelled < below ? modelled : below;
    if (too_long(m, below))
        return 0;
    for (unsigned i = 1; i <= modelled; i++)
        path = path << 1 | node_bit(m, decode, p, node + path, a >> (below - i) & 1);
    unsigned raw = below - modelled;
    uint32_t top = (e ? 1u << modelled : 0) | (path ^ 1u << modelled);
    return top << raw | code_raw(m, decode, a & ((1u << raw) - 1), raw);
}

/* How probable either sign is depends on the expected value times the magnitude. */
INLINE unsigned code_sign(mix_model *m, bool decode, const mix_place *p, uint32_t a, unsigned negative)
{
    const mix_column *c = &m->columns[m->column + 1];
    uint32_t size = mix_normalise(&m->t, a, p->scale);
    int64_t z = size < 2047 ? size : 2047;
    unsigned e = bit_length(a >> p->shift);
    e = e < 7 ? e : 7;
    uint32_t *slots[MIX_SIGNS] = {
        &m->signs[0][(unsigned)mix_quantise(c->mean * z >> 6) * 8 + e],
        &m->signs[1][mix_quantise(c->recent * z >> 6)],
        &m->signs[2][(unsigned)mix_quantise(p->mean * z >> 6) * 8 + e],
        &m->signs[3][mix_quantise(p->along * z >> 6)],
    };
    return mix_bit(m, decode, negative, slots, MIX_SIGNS, &m->by_class[e], &m->by_sign, 10);
}

/* A step of log2(scale), in 1/65536, from a score and what was seen so far. */
static inline int32_t scale_step(int32_t score, int32_t seen)
{
    return clamp_i32(score * 369 / (seen + 2000), -65536, 65536);
}

/* The scales follow the natural gradient of a geometric distribution's likelihood, the means the values. */
INLINE void learn_place(mix_model *m, const mix_place *p, uint32_t a, unsigned negative)
{
    mix_column *c = &m->columns[m->column + 1];
    uint32_t z = mix_normalise(&m->t, a, p->scale), most = 1024;
    if (p->scale < 512)
        most += m->t.fall[p->scale & 255] * 512 >> (16 + (p->scale >> 8));
    z = z < most ? z : most;
    int32_t i = (p->scale + 2048) >> 4, info = m->t.info[i < 255 ? i : 255];
    int32_t score = ((int32_t)z - 256) * info, value = (negative ? -(int32_t)z : (int32_t)z) * 16;
    m->row_info = clamp_i32(m->row_info + info, 0, 131072);
    m->row_scale = clamp_i32(m->row_scale + scale_step(score, m->row_info), -589824, 1572864);
    c->info = clamp_i32(c->info + info, 0, 262144);
    c->scale = clamp_i32(c->scale + scale_step(score, c->info), -1048576, 1048576);
    c->trend += (score - c->trend) >> 4;
    c->offset = clamp_i32(value - c->mean, -16384, 16384);
    int32_t rest = c->offset;
    for (unsigned k = 0; k < MIX_AXES; k++) {
        m->along[k] += (int64_t)rest * c->axes[k] >> 12;
        m->length[k] += (int64_t)c->axes[k] * c->axes[k] >> 12;
        rest -= p->parts[k];
    }
    c->recent += (value - c->recent) / 8;
    int32_t seen = (c->info >> 8) + 4;
    c->mean += (value - c->mean) / (seen < 512 ? seen : 512);
    m->left2 = m->left;
    m->left = z < 1024 ? z : 1024;
    c->size = (int32_t)m->left;
}

INLINE void code_values(mix_model *m, bool decode, const int32_t *in, int32_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        mix_place p;
        if (m->column == m->width)
            mix_next_row(m);
        find_place(m, &p);
        uint32_t v = decode ? 0 : (uint32_t)in[i], negative = v >> 31;
        uint32_t a = code_magnitude(m, decode, &p, negative ? 0 - v : v);
        if (a)
            negative = code_sign(m, decode, &p, a, negative);
        learn_place(m, &p, a, negative);
        if (decode)
            out[i] = (int32_t)(negative ? 0 - a : a);
        m->column++;
    }
}

static size_t columns_of(size_t width) { return width - 1 < MIX_COLUMNS ? width : 1024; }

size_t mix_scratch(size_t width) { return sizeof(mix_model) + (columns_of(width) + 2) * sizeof(mix_column) + 2 * 64; }

static mix_model *take_model(uint8_t *scratch, size_t width, size_t phase, unsigned level)
{
    size_t columns = columns_of(width);
    mix_model *m = take(&scratch, sizeof *m);
    mix_model_begin(m, columns, phase % columns, level, take(&scratch, (columns + 2) * sizeof(mix_column)));
    return m;
}

/* log2 of the mean magnitude in 1/8, and 64. */
static unsigned level_of_all(const int32_t *r, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += r[i] < 0 ? 0 - (uint32_t)r[i] : (uint32_t)r[i];
    uint64_t mean = n ? (sum << 8) / n : 0;
    unsigned e = bit_length(mean), extra = e > 30 ? e - 30 : 0;
    int32_t log2 = mean ? mix_log2((uint32_t)(mean >> extra)) + (int32_t)extra * 256 - 2048 : -2048;
    return (unsigned)clamp_i32(((log2 + 16) >> 5) + 64, 0, 255);
}

void mix_encode(const int32_t *r, size_t n, size_t width, size_t phase, uint8_t *scratch, writer *w)
{
    unsigned level = level_of_all(r, n);
    mix_model *m = take_model(scratch, width, phase, level);
    write_u8(w, level);
    m->coder = (mix_range){.range = UINT64_MAX, .out = w, .start = w->at};
    code_values(m, false, r, NULL, n);
    range_end_encode(&m->coder);
}

int mix_begin(mix_decoder *d, reader *r, size_t width, size_t phase, uint8_t *scratch)
{
    unsigned level = read_u8(r);
    size_t size = reader_left(r);
    const uint8_t *payload = read_bytes(r, size);
    if (r->failed)
        return SZD_BLOCK_SHORT;
    if (size && payload[size - 1] == 0)
        return SZD_BLOCK_CODES; /* the encoder drops zeros at the end */
    d->model = take_model(scratch, width, phase, level);
    range_begin_decode(&d->model->coder, payload, payload + size);
    return d->model->coder.failed ? SZD_BLOCK_CODES : SZD_OK;
}

int mix_decode(mix_decoder *d, int32_t *out, size_t n)
{
    code_values(d->model, true, NULL, out, n);
    return d->model->coder.failed ? SZD_BLOCK_CODES : SZD_OK;
}

/* Nothing is left. */
bool mix_finished(const mix_decoder *d)
{
    const mix_range *c = &d->model->coder;
    return !c->failed && c->at == c->end;
}

size_t szd_mix_scratch(size_t width) { return mix_scratch(width); }

int szd_mix_encode(const int32_t *residuals, size_t n, size_t width, size_t phase, uint8_t *scratch, uint8_t *out,
                   size_t capacity, size_t *size)
{
    writer w = {out, out + capacity, false};
    mix_encode(residuals, n, width, phase, scratch, &w);
    *size = (size_t)(w.at - out);
    return w.failed ? SZD_ARGUMENT : SZD_OK;
}

int szd_mix_decode(const uint8_t *data, size_t size, size_t width, size_t phase, uint8_t *scratch, int32_t *out,
                   size_t n)
{
    mix_decoder d;
    reader r = {data, data + size, false};
    int status = mix_begin(&d, &r, width, phase, scratch);
    for (size_t done = 0; status == SZD_OK && done < n; done += CHUNK)
        status = mix_decode(&d, out + done, n - done < CHUNK ? n - done : CHUNK);
    return status ? status : mix_finished(&d) ? SZD_OK : SZD_BLOCK_CODES;
}
