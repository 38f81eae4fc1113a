/* Text out of bytes that somebody else made. */
#ifndef BATON_CORE_UTF8_H
#define BATON_CORE_UTF8_H

#include "core/arena.h"

/* A copy in which every byte that is not part of well-formed UTF-8 (NUL too) became U+FFFD.  With
 * cut, the bytes were cut at their end: a sequence that is only incomplete there is dropped. */
struct str utf8_clean(struct arena *, struct str bytes, bool cut);

#endif
