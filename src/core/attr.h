/* Compiler attributes under short names; the only place they are spelled. */
#ifndef BATON_CORE_ATTR_H
#define BATON_CORE_ATTR_H

#define NODISCARD __attribute__((warn_unused_result))
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define NEVER_NULL __attribute__((returns_nonnull))
#define NORETURN __attribute__((noreturn))
#define CLEANUP(fn) __attribute__((cleanup(fn)))

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

#endif
