#include "domain/secret.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "domain/audit.h"
#include "domain/domain.h"
#include "domain/sql.h"

enum {
        NONCE = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
        TAG = crypto_aead_xchacha20poly1305_ietf_ABYTES,
};
static_assert(sizeof(((struct domain *)0)->vault) == crypto_aead_xchacha20poly1305_ietf_KEYBYTES,
              "the vault is a key of this cipher");

#define AT(member) offsetof(struct secret, member)
static const struct field secret_fields[] = {
        { "workspace_id", FIELD_NAME, FIELD_COLUMN, AT(workspace_id) },
        { "name", FIELD_STR, FIELD_COLUMN | FIELD_WIRE | FIELD_REQUIRED, AT(name) },
        { "nonce", FIELD_BYTES, FIELD_COLUMN, AT(nonce) },
        { "sealed", FIELD_BYTES, FIELD_COLUMN, AT(sealed) },
        { "created_at", FIELD_TIME, FIELD_COLUMN | FIELD_WIRE | FIELD_REQUIRED, AT(created_at) },
        { "updated_at", FIELD_TIME, FIELD_COLUMN | FIELD_WIRE | FIELD_REQUIRED, AT(updated_at) },
};
const struct record secret_record = { "Secret", secret_fields, LENGTH(secret_fields),
                                      sizeof(struct secret), -1 };

bool secret_name_is_valid(struct str name)
{
        for (size_t i = 0; i < name.n; i++) {
                char c = name.p[i];
                bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';

                if (!letter && !(i && ((c >= '0' && c <= '9') || c == '-' || c == '.')))
                        return false;
        }
        return name.n > 0 && name.n <= SECRET_NAME_MAX;
}

/* ---- sealing ---- */

/* What the value is bound to.  Neither part can hold the separator. */
static struct str binding(struct arena *arena, struct str workspace, struct str name)
{
        return arena_printf(arena, STR_FMT "/" STR_FMT, STR_ARG(workspace), STR_ARG(name));
}

struct sealed secret_seal(struct tx *tx, struct str bound, struct str value)
{
        const struct domain *domain = tx_context(tx);
        struct arena *arena = &tx_scope(tx)->arena;
        unsigned char *nonce = arena_alloc(arena, NONCE, 1);
        unsigned char *sealed = arena_alloc(arena, value.n + TAG, 1);

        scope_random(tx_scope(tx), nonce, NONCE);
        crypto_aead_xchacha20poly1305_ietf_encrypt(sealed, NULL, (const unsigned char *)value.p,
                                                   value.n, (const unsigned char *)bound.p, bound.n,
                                                   NULL, nonce, domain->vault);
        return (struct sealed){ { (char *)nonce, NONCE }, { (char *)sealed, value.n + TAG } };
}

struct str secret_unseal(struct tx *tx, struct str bound, struct sealed s)
{
        const struct domain *domain = tx_context(tx);
        unsigned char *value;

        if (s.nonce.n != NONCE || s.text.n < TAG)
                return STR_NONE;
        value = xcalloc(s.text.n, 1);
        if (crypto_aead_xchacha20poly1305_ietf_decrypt(
                    value, NULL, NULL, (const unsigned char *)s.text.p, s.text.n,
                    (const unsigned char *)bound.p, bound.n, (const unsigned char *)s.nonce.p,
                    domain->vault)) {
                free(value);
                return STR_NONE;
        }
        return (struct str){ (char *)value, s.text.n - TAG };
}

void secret_wipe(struct str value)
{
        char *bytes = (char *)(uintptr_t)value.p;

        if (bytes)
                sodium_memzero(bytes, value.n);
        free(bytes);
}

/* ---- operations ---- */

static size_t without_line_ends(struct str text)
{
        size_t n = 0;

        for (size_t i = 0; i < text.n; i++)
                n += text.p[i] != '\n' && text.p[i] != '\r';
        return n;
}

static enum err check(struct scope *scope, struct str name, struct str value)
{
        if (!secret_name_is_valid(name))
                return fail_field(scope, "name", ERR_VALIDATION,
                                  "the name of a secret is 1 to %d letters, digits, _ - . and"
                                  " begins with a letter or _",
                                  SECRET_NAME_MAX);
        if (value.n > SECRET_MAX)
                return fail_limit(scope, "value", ERR_TOO_LARGE, SECRET_MAX, (int64_t)value.n,
                                  "bytes of a secret");
        /* What is searched for: steps are often given it without the blanks at its ends. */
        if (without_line_ends(str_trim(value)) < SECRET_MIN)
                return fail_field(scope, "value", ERR_VALIDATION,
                                  "a secret must have at least %d bytes beside line ends and"
                                  " blanks at its ends: a shorter one cannot be hidden in outputs",
                                  SECRET_MIN);
        return ERR_OK;
}

/* before, after: NULL where there is none.  The digests are of the sealed values. */
static enum err tell(struct tx *tx, const struct principal *by, enum audit_action action,
                     const struct secret *before, const struct secret *after)
{
        const struct audit_change change = {
                .action = action,
                .resource = after ? after->name : before->name,
                .workspace = by->workspace,
                .before = before ? audit_digest(tx, &secret_record, before) : STR_NONE,
                .after = after ? audit_digest(tx, &secret_record, after) : STR_NONE,
        };

        return audit_append(tx, by, &change);
}

enum err secret_put(struct tx *tx, const struct principal *by, struct str name, struct str value)
{
        struct secret s = { .workspace_id = by->workspace,
                            .name = name,
                            .created_at = tx_now(tx),
                            .updated_at = tx_now(tx) };
        struct sealed sealed;
        struct secret before;
        int64_t others;
        bool is_new;
        enum err e = check(tx_scope(tx), name, value);

        if (!e)
                e = tx_number(tx, SQL_SECRET_BYTES, &others, NAME(by->workspace), TEXT(name));
        if (e)
                return e;
        sealed = secret_seal(tx, binding(&tx_scope(tx)->arena, s.workspace_id, name), value);
        s.nonce = sealed.nonce;
        s.sealed = sealed.text;
        if (others + (int64_t)s.sealed.n > SECRETS_MAX)
                return fail_limit(tx_scope(tx), "value", ERR_TOO_LARGE, SECRETS_MAX,
                                  others + (int64_t)s.sealed.n,
                                  "bytes of all secrets of a workspace");
        e = tx_one(tx, SQL_SECRET_GET, &before, NAME(by->workspace), TEXT(name));
        is_new = e == ERR_EMPTY;
        if (e && !is_new)
                return e;
        if (!is_new)
                s.created_at = before.created_at;
        e = tx_insert(tx, SQL_SECRET_PUT, &s);
        return e ? e : tell(tx, by, AUDIT_SECRET_PUT, is_new ? NULL : &before, &s);
}

enum err secret_list(struct tx *tx, const struct principal *by, struct list *out)
{
        return tx_all(tx, SQL_SECRET_LIST, out, NAME(by->workspace));
}

enum err secret_delete(struct tx *tx, const struct principal *by, struct str name)
{
        struct secret before;
        enum err e = tx_one(tx, SQL_SECRET_GET, &before, NAME(by->workspace), TEXT(name));

        if (e)
                return e == ERR_EMPTY ? fail_missing(tx_scope(tx), "secret") : e;
        e = tx_exec(tx, SQL_SECRET_DELETE, NAME(by->workspace), TEXT(name));
        return e ? e : tell(tx, by, AUDIT_SECRET_DELETED, &before, NULL);
}

enum err secrets_open(struct tx *tx, struct str workspace, struct secrets *out)
{
        struct list rows;
        enum err e = tx_all(tx, SQL_SECRET_LIST, &rows, NAME(workspace));
        const struct secret *row = rows.items;

        if (e)
                return e;
        *out = (struct secrets){ .n = rows.n };
        if (rows.n)
                out->items = xcalloc(rows.n, sizeof(*out->items));
        for (size_t i = 0; i < rows.n; i++) {
                struct str name = row[i].name;

                out->items[i].name =
                        (struct str){ memcpy(xmalloc(name.n), name.p, name.n), name.n };
                out->items[i].value =
                        secret_unseal(tx, binding(&tx_scope(tx)->arena, workspace, name),
                                      (struct sealed){ row[i].nonce, row[i].sealed });
        }
        return ERR_OK;
}

void secrets_done(struct secrets *s)
{
        for (size_t i = 0; i < s->n; i++) {
                secret_wipe(s->items[i].value);
                free((char *)(uintptr_t)s->items[i].name.p);
        }
        free(s->items);
        *s = (struct secrets){ 0 };
}
