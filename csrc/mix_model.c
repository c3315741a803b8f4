/* The mixing coder's tables and what it does once a row (FORMAT.md, section 9). */
#include "mix.h"

/* e^-x and 2^-x by repeated multiplication in integers. */
static void make_curves(mix_tables *t)
{
    uint64_t fall = (uint64_t)1 << 32, x = fall;
    for (unsigned i = 0; i < 256; i++, fall = fall * 4283353945u >> 32)
        t->fall[i] = (uint32_t)(fall >> 16);
    for (unsigned d = 0; d <= MIX_STRETCH; d++, x = x * 4278222805u >> 32) {
        uint32_t p = (uint32_t)(((uint64_t)1 << 48) / (((uint64_t)1 << 32) + x));
        p = p > 65535 ? 65535 : p;
        t->squash[MIX_STRETCH + d] = (uint16_t)p;
        t->squash[MIX_STRETCH - d] = (uint16_t)(65536 - p);
    }
}

void mix_tables_make(mix_tables *t)
{
    make_curves(t);
    for (unsigned i = 0, d = 0; i < 4096; i++) {
        while (d < 2 * MIX_STRETCH && t->squash[d + 1] <= 16 * i + 8)
            d++;
        t->stretch[i] = (int16_t)((int)d - MIX_STRETCH);
    }
    for (unsigned i = 0; i < 256; i++) {
        uint32_t inverse = t->fall[(i & 15) << 4] << 8 >> (i >> 4), info = (1u << 24) / (65536 + inverse);
        t->info[i] = (uint16_t)(info ? info : 1);
        t->learn[i] = (uint16_t)(4 + 600 / (i + 8));
    }
    for (unsigned i = 0; i < 1024; i++)
        t->rate[i] = (uint16_t)(131072 / (2 * i + 3));
}

/* Adaptive probabilities of 1/2 that were never used, copied from what is in the first-level cache. */
static void fill_slots(uint32_t *slots, size_t n)
{
    enum { MOST = 1024 };
    slots[0] = 1u << 31;
    for (size_t done = 1, part; done < n; done += part) {
        part = done < MOST ? done : MOST;
        part = part < n - done ? part : n - done;
        memcpy(slots + done, slots, part * sizeof *slots);
    }
}

static void fill_weights(mix_weights *w, size_t n, unsigned inputs, int32_t value)
{
    memset(w, 0, n * sizeof *w);
    for (size_t i = 0; i < n; i++)
        for (unsigned k = 0; k < inputs; k++)
            w[i].of[k] = value;
}

static void begin_row(mix_model *m)
{
    m->row_scale = m->mean_scale;
    m->row_info = 0;
    memset(m->along, 0, sizeof m->along);
    memset(m->length, 0, sizeof m->length);
    memset(m->share, 0, sizeof m->share);
    m->left = m->left2 = 256;
}

void mix_model_begin(mix_model *m, size_t width, size_t phase, unsigned level, mix_column *columns)
{
    mix_tables_make(&m->t);
    fill_slots(m->slots[0], MIX_ROWS * MIX_NODES);
    fill_slots(m->signs[0], MIX_SIGNS * 256);
    fill_weights(m->by_node, MIX_NODES * 4, MIX_MODELS, 4681);
    fill_weights(m->by_trust, 72, MIX_MODELS, 4681);
    fill_weights(m->by_class, 8, MIX_SIGNS, 8192);
    fill_weights(&m->by_sign, 1, MIX_SIGNS, 8192);
    memset(m->used, 0, sizeof m->used);
    m->width = width;
    m->column = phase;
    m->rows = 0;
    m->mean_scale = ((int32_t)level - 64) * 8192;
    begin_row(m);
    m->columns = columns;
    memset(columns, 0, (width + 2) * sizeof *columns);
}

/* The magnitude over 2^scale, in 1/256; scale >= -2048. */
uint32_t mix_normalise(const mix_tables *t, uint32_t magnitude, int32_t scale)
{
    uint64_t a = magnitude < 0xffffff ? magnitude : 0xffffff;
    uint64_t z = a * t->fall[scale & 255] >> (8 + (scale >> 8));
    return z < 1u << 20 ? (uint32_t)z : 1u << 20;
}

/* A signed number to 1 ... 31: the sign, and half octaves of the magnitude from 2^6 on. */
int32_t mix_quantise(int64_t v)
{
    uint64_t a = v < 0 ? (uint64_t)-v : (uint64_t)v;
    int32_t l = 15;
    if (a < 64)
        l = 0;
    else if (a < 1u << 30)
        l = (mix_log2((uint32_t)a) - 6 * 256) / 128 + 1;
    l = l < 15 ? l : 15;
    return v < 0 ? 16 - l : 16 + l;
}

/* Oja's rule: an axis turns towards the row's offsets by as much as the row lies along it. What lies along it is then
 * taken away, and the next axis sees the rest. The first rows are the first axes. */
static void turn_axis(mix_model *m, unsigned k)
{
    mix_column *c = m->columns + 1;
    int64_t sum = 0;
    for (size_t i = 0; i < m->width; i++)
        sum += (int64_t)c[i].offset * c[i].axes[k];
    int32_t along = clamp_i32(sum / (int64_t)m->width >> 12, -16384, 16384);
    int32_t divisor = (int32_t)(m->rows + 1 - k < 20 ? m->rows + 1 - k : 20);
    for (size_t i = 0; i < m->width; i++) {
        c[i].offset -= (int32_t)((int64_t)along * c[i].axes[k] >> 12);
        int32_t turn = (int32_t)((int64_t)along * c[i].offset >> 12) / divisor;
        c[i].axes[k] = clamp_i32(c[i].axes[k] + turn, -32768, 32767);
    }
}

void mix_next_row(mix_model *m)
{
    for (unsigned k = 0; k < MIX_AXES && k < m->rows; k++)
        turn_axis(m, k);
    if (m->rows < MIX_AXES)
        for (size_t i = 1; i <= m->width; i++)
            m->columns[i].axes[m->rows] = clamp_i32(m->columns[i].offset, -32768, 32767);
    int32_t rows = m->rows + 1 < 64 ? (int32_t)m->rows + 1 : 64;
    m->mean_scale += (m->row_scale - m->mean_scale) / rows;
    begin_row(m);
    m->column = 0;
    m->rows += m->rows < UINT32_MAX;
}
