/* The coder in C: of each Python module the same in a header of its name, which that module explains.
 *
 * The same integers, so the same bytes. native.py calls the functions that are not static. Nothing is read or written
 * outside of the arrays that they are given: contexts are clamped where they are made, zeros are read after the end of
 * the content, and decoding stops soon after it. It is one unit, so that the compiler sees all of a loop.
 */
#include "byte_counts.h"
#include "model.h"
#include "questions.h"
#include "range_coder.h"
#include "rounding.h"
#include "symbols.h"

#ifndef SOURCE_DIGEST
#define SOURCE_DIGEST "SHA-256 of this file and the headers, by which native.py knows that this is what was built"
#endif

const char source_digest[] = SOURCE_DIGEST;
