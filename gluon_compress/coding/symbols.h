/* Whole symbols: what symbols.py does. */
#pragma once

#include "model.h"

enum { SYMBOL_CONTEXTS = 64, TOKENS = 240, DIRECT = 16, SYMBOL_UNIT = 1 << 15, SEEN = 64, MOST_SEEN = 1 << 21 };
enum { FLUSH = 1 << 17, SLOPES = 128, LONGEST_INTERVAL = 4096, ENTRIES = 256, RARE = 64 };
#define LEAST_STATE ((uint64_t)1 << 31)
#define PLAIN ((uint32_t)1 << 31) /* in place of a frequency: plain bits, this many */

typedef struct {
    uint32_t counts[SYMBOL_CONTEXTS][TOKENS], sign[2][SLOPES];
    uint16_t starts[SYMBOL_CONTEXTS][TOKENS + 1];
    uint8_t first[SYMBOL_CONTEXTS][ENTRIES]; /* token that the first slot of each 128 belongs to */
    int32_t seen[SYMBOL_CONTEXTS], left[SYMBOL_CONTEXTS], tokens;
    uint64_t state, *waiting; /* waiting: what an encoder has not put onto its state yet, which goes from last to first */
    uint8_t *content;
    int64_t position, length, waits;
    int no_room;
    const uint16_t *reciprocal;
} symbols_t;

static uint64_t read_bytes(symbols_t *symbols, int count) {
    uint64_t word = 0;
    for (int i = 0; i < count; i++, symbols->position++)
        if (symbols->position < symbols->length) word |= (uint64_t)symbols->content[symbols->position] << (8 * i);
    return word;
}

ALWAYS_INLINE void refill(symbols_t *symbols) {
    if (symbols->state >= LEAST_STATE) return;
    symbols->state = symbols->state << 32 | read_bytes(symbols, 4);
}

ALWAYS_INLINE void wait_for(symbols_t *symbols, uint32_t start, uint32_t frequency) {
    symbols->waiting[symbols->waits++] = (uint64_t)frequency << 32 | start;
}

/* Put all that waits onto the state, and write the state and the words that it gave off, those of the last first. */
static void flush(symbols_t *symbols) {
    uint64_t state = LEAST_STATE;
    int64_t place = symbols->length;
    for (int64_t i = symbols->waits - 1; i >= 0; i--) {
        uint64_t start = symbols->waiting[i] & UINT32_MAX, frequency = symbols->waiting[i] >> 32;
        int bits = frequency & PLAIN ? (int)(frequency & 63) : 0; /* plain ones */
        if (state >= (bits ? (uint64_t)1 << (63 - bits) : frequency << 48)) {
            if (place - 4 < symbols->position + 8) symbols->no_room = 1;
            if (symbols->no_room) return;
            for (int j = 3; j >= 0; j--) symbols->content[--place] = (uint8_t)(state >> (8 * j));
            state >>= 32;
        }
        state = bits ? state << bits | start : (state / frequency << 15) + state % frequency + start;
    }
    if (symbols->length - symbols->position < 8) symbols->no_room = 1;
    if (symbols->no_room) return;
    for (int j = 0; j < 8; j++) symbols->content[symbols->position++] = (uint8_t)(state >> (8 * j));
    memmove(symbols->content + symbols->position, symbols->content + place, (size_t)(symbols->length - place));
    symbols->position += symbols->length - place;
    symbols->waits = 0;
}

static void rebuild(symbols_t *symbols, int context) {
    uint32_t *counts = symbols->counts[context];
    uint16_t *starts = symbols->starts[context];
    uint64_t sum = 0, before = 0;
    for (int i = 0; i < symbols->tokens; i++) sum += counts[i];
    if (sum > MOST_SEEN) {
        sum = 0;
        for (int i = 0; i < symbols->tokens; i++) sum += counts[i] = (counts[i] + 1) >> 1;
    }
    uint64_t scale = ((uint64_t)(SYMBOL_UNIT - symbols->tokens) << 32) / sum;
    for (int i = 0; i < symbols->tokens; before += counts[i++])
        starts[i] = (uint16_t)((before * scale >> 32) + (uint64_t)i);
    starts[symbols->tokens] = SYMBOL_UNIT;
    for (int i = 0, token = 0; i < ENTRIES; i++) {
        while (starts[token + 1] <= i * (SYMBOL_UNIT / ENTRIES)) token++;
        symbols->first[context][i] = (uint8_t)token;
    }
    int32_t interval = 4 + (symbols->seen[context] >> 3);
    symbols->left[context] = smaller(interval, LONGEST_INTERVAL);
    symbols->seen[context] += symbols->left[context];
}

ALWAYS_INLINE int code_token(symbols_t *symbols, int mode, int token, int context) {
    const uint16_t *starts = symbols->starts[context];
    if (mode == DECODING) {
        uint32_t slot = symbols->state & (SYMBOL_UNIT - 1);
        token = symbols->first[context][slot / (SYMBOL_UNIT / ENTRIES)];
        while (starts[token + 1] <= slot) token++;
        symbols->state = (uint64_t)(starts[token + 1] - starts[token]) * (symbols->state >> 15) + slot - starts[token];
        refill(symbols);
    } else {
        wait_for(symbols, starts[token], (uint32_t)(starts[token + 1] - starts[token]));
    }
    symbols->counts[context][token] += SEEN;
    if (!--symbols->left[context]) rebuild(symbols, context);
    return token;
}

ALWAYS_INLINE uint32_t code_bits(symbols_t *symbols, int mode, uint32_t number, int count) {
    if (mode == DECODING) {
        number = (uint32_t)(symbols->state & (((uint64_t)1 << count) - 1));
        symbols->state >>= count;
        refill(symbols);
    } else {
        wait_for(symbols, number, PLAIN | (uint32_t)count);
    }
    return number;
}

/* Negative or not, by the mean of what two contexts say. */
ALWAYS_INLINE int code_negative(symbols_t *symbols, int mode, int negative, const int *contexts) {
    uint32_t *first = &symbols->sign[0][contexts[0]], *second = &symbols->sign[1][contexts[1]];
    uint32_t share = (uint32_t)clamp((int)(((*first >> 10) + (*second >> 10)) >> 8), RARE, SYMBOL_UNIT - RARE);
    if (mode == DECODING) {
        uint32_t slot = symbols->state & (SYMBOL_UNIT - 1);
        negative = slot < share;
        symbols->state = (negative ? share : SYMBOL_UNIT - share) * (symbols->state >> 15) + slot - (negative ? 0 : share);
        refill(symbols);
    } else {
        wait_for(symbols, negative ? 0 : share, negative ? share : SYMBOL_UNIT - share);
    }
    learn(first, negative, symbols->reciprocal);
    learn(second, negative, symbols->reciprocal);
    return negative;
}

ALWAYS_INLINE int token_of(uint32_t magnitude) {
    int length = bit_length(magnitude);
    return magnitude < DIRECT ? (int)magnitude : DIRECT + (length - 5) * 8 + (int)(magnitude >> (length - 4) & 7);
}

ALWAYS_INLINE int code_symbol(symbols_t *symbols, means_t *means, int mode, int32_t *value, const geometry_t *geometry,
                              const int32_t *share, int64_t filter, int64_t channel, int64_t position, int64_t column) {
    int64_t place = channel * geometry->positions + position, size = geometry->channels * geometry->positions;
    neighbours_t near = neighbours_of(value, filter, size, place, column, position, geometry, means->wide);
    int expected = expected_magnitude(means, share, channel, place, &near), negative = 0, contexts[SIGN_INPUTS];
    uint32_t magnitude = *value < 0 ? 0 - (uint32_t)*value : (uint32_t)*value;
    int token = mode == DECODING ? 0 : token_of(magnitude);
    token = code_token(symbols, mode, token, clamped_level(expected, 2, 6, SYMBOL_CONTEXTS - 1));
    if (token >= DIRECT) {
        int bits = (token - DIRECT) / 8 + 1;
        uint32_t rest = code_bits(symbols, mode, magnitude & (((uint32_t)1 << bits) - 1), bits);
        magnitude = (8 | (uint32_t)(token & 7)) << bits | rest;
    } else {
        magnitude = (uint32_t)token;
    }
    if (magnitude) {
        sign_contexts(contexts, means, place, magnitude, &near);
        negative = code_negative(symbols, mode, *value < 0, contexts);
    }
    if (magnitude > ((uint32_t)1 << 31) - !negative) return 0;
    if (mode == DECODING) *value = (int32_t)(negative ? 0 - magnitude : magnitude);
    update(means, *value, magnitude, filter, channel, position, geometry->positions, place, symbols->reciprocal);
    return 1;
}

/* Begin or end a run of FLUSH values; 0 when the content is damaged. */
static int turn(symbols_t *symbols, int mode, int64_t place, int64_t count) {
    if (mode == ENCODING) {
        if (place) flush(symbols);
        return !symbols->no_room;
    }
    if (place && (symbols->state != LEAST_STATE || symbols->position > symbols->length)) return 0;
    if (place < count) symbols->state = read_bytes(symbols, 8);
    return place < count || symbols->position == symbols->length;
}

ALWAYS_INLINE int64_t code_symbols(symbols_t *symbols, int mode, int32_t *values, const geometry_t *geometry,
                                   const settings_t *settings) {
    means_t means;
    int64_t place = 0, count = geometry->filters * geometry->channels * geometry->positions;
    if (!new_means(&means, geometry, settings->mean)) {
        free_means(&means);
        return NO_MEMORY;
    }
    int whole = 1;
    for (int64_t filter = 0; whole && filter < geometry->filters; filter++) {
        begin_row(&means, settings->mean);
        for (int64_t channel = 0; whole && channel < geometry->channels; channel++) {
            means.map = means.channel[channel];
            for (int64_t position = 0, column = 0; whole && position < geometry->positions; position++, place++) {
                if (place % FLUSH == 0) whole = turn(symbols, mode, place, count);
                whole = whole && code_symbol(symbols, &means, mode, values + place, geometry, settings->share, filter,
                                             channel, position, column);
                column = column + 1 < geometry->width ? column + 1 : 0;
            }
        }
    }
    whole = whole && turn(symbols, mode, count, count);
    free_means(&means);
    return whole ? 0 : mode == ENCODING ? NO_ROOM : DAMAGED;
}

/* priors: SYMBOL_CONTEXTS x TOKENS, what each token counts before it was seen. */
static symbols_t *new_symbols(const uint16_t *reciprocal, const uint16_t *priors, int32_t tokens, uint8_t *content,
                              int64_t length) {
    symbols_t *symbols = calloc(1, sizeof *symbols);
    if (!symbols) return NULL;
    symbols->reciprocal = reciprocal;
    symbols->tokens = tokens;
    symbols->content = content;
    symbols->length = length;
    for (int i = 0; i < SLOPES; i++) symbols->sign[0][i] = symbols->sign[1][i] = (uint32_t)1 << 31;
    for (int context = 0; context < SYMBOL_CONTEXTS; context++) {
        for (int i = 0; i < tokens; i++) symbols->counts[context][i] = priors[context * TOKENS + i] + 1;
        rebuild(symbols, context);
    }
    return symbols;
}

/* As encode_values; tokens: above all that the values have, at most TOKENS. */
int64_t encode_symbols(const int32_t *values, const geometry_t *geometry, const settings_t *settings,
                       const tables_t *tables, uint8_t *content, int64_t length, const uint16_t *priors,
                       int32_t tokens) {
    symbols_t *symbols = new_symbols(tables->reciprocal, priors, tokens, content, length);
    int64_t count = geometry->filters * geometry->channels * geometry->positions, result = NO_MEMORY;
    if (symbols) symbols->waiting = malloc(3 * sizeof *symbols->waiting * (size_t)(count < FLUSH ? count : FLUSH));
    if (symbols && symbols->waiting) {
        result = code_symbols(symbols, ENCODING, (int32_t *)values, geometry, settings);
        result = result ? result : symbols->position;
        free(symbols->waiting);
    }
    free(symbols);
    return result;
}

/* As decode_values. */
int64_t decode_symbols(int32_t *values, const geometry_t *geometry, const settings_t *settings, const tables_t *tables,
                       const uint8_t *content, int64_t length, const uint16_t *priors, int32_t tokens) {
    symbols_t *symbols = new_symbols(tables->reciprocal, priors, tokens, (uint8_t *)content, length);
    if (!symbols) return NO_MEMORY;
    int64_t result = code_symbols(symbols, DECODING, values, geometry, settings);
    free(symbols);
    return result;
}
