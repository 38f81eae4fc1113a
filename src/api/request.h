/* A request on its way: private to the API room. */
#ifndef BATON_API_REQUEST_H
#define BATON_API_REQUEST_H

#include "api/api.h"
#include "domain/run.h"
#include "domain/task.h"

enum route_mode { ROUTE_READ, ROUTE_WRITE, ROUTE_OPEN };
enum route_flag {
        ROUTE_IDEMPOTENT = 1, /* honours Idempotency-Key */
        ROUTE_BATCH = 2,      /* body up to 8 MiB */
        ROUTE_STREAM = 4,     /* after the handler, the reply is a stream; its frames have such data */
        ROUTE_LIST = 8,       /* the reply is a page of such records */
        ROUTE_SECRET = 16,    /* the reply holds a secret, which is not kept with it */
        ROUTE_CREATES = 32,   /* answers 201 */
        ROUTE_OR_EMPTY = 64,  /* or 204: there is nothing to tell */
        ROUTE_OUTCOMES = 128, /* the reply has a row for each item: such a record, or its problem */
        ROUTE_HOLDER = 256,   /* X-Claim-Token says what the body's claim_token does */
        ROUTE_IF_MATCH = 512, /* needs If-Match */
        ROUTE_OR_THERE = 1024, /* or 200: what it would create is there */
};

struct request;
typedef enum err route_handler(struct request *, struct tx *);
/* Reads the raw body, of any content type, before the transaction. */
typedef enum err route_prepare(struct request *);

struct route {
        enum http_method method;
        const char *path; /* /v1/tasks/{task}/cancel */
        unsigned scope;   /* bit that the key must have; 0 = any key */
        enum route_mode mode;
        unsigned flags;
        const struct record *body;
        const struct record *reply; /* NULL: 204, or `text` */
        route_handler *handle;
        enum call_class class;
        const char *summary;
        route_prepare *prepare; /* instead of `body` */
        const struct record *filter; /* what the query may say; read before the handler runs */
        const struct record *other;  /* what the reply is instead of `reply`, as the body asks */
        const struct record *beside; /* what a page has beside items and next_cursor */
        const char *text;            /* media type of a reply that is text */
};

enum { PARAMS_MAX = 3, BODY_LIMIT = 1 << 20, BATCH_LIMIT = 8 << 20 };

struct stream;

struct request {
        struct claim_call claim; /* first: .call goes through the store */
        struct api *api;
        struct exchange *exchange; /* NULL once the client has left; touched on its loop only */
        struct http_loop *loop;
        struct http_task task;
        const struct route *route;
        struct scope scope;
        bool authenticated;
        struct principal by;
        struct str bearer, workspace_header, idempotency_key, content_type;
        struct str claim_token, if_match; /* headers */
        struct str last_event_id;
        struct http_peer peer;
        struct str path, query, raw_body;
        struct str params[PARAMS_MAX];
        void *body, *filter; /* structs of the records that the route names */
        bool parsed;
        int keys_generation;
        struct str own_workspace; /* the key's or the default; this request may choose another */
        int64_t key_expires; /* wall clock, 0 = never */

        /* The reply. */
        int status;
        const struct record *reply;
        const void *reply_value;
        void (*render)(struct request *, struct json_out *); /* instead of reply */
        struct list items;       /* for renderers of lists */
        const void *beside;      /* of the route's `beside` */
        int64_t next_cursor;
        const char *cursor_prefix; /* NULL: cur */
        struct str text;         /* ready-made body */
        const char *text_type;
        struct stream *stream;
        /* When the client has left before the reply: what takes the effect back; may be NULL. */
        enum err (*undeliver)(struct request *, struct tx *);

        /* With an Idempotency-Key. */
        bool keeping;     /* what is rendered is the record: a secret's place stays empty */
        bool replayed;    /* the reply is that of an earlier request */
        int64_t kept_at;  /* when the reply was recorded */
        struct str begun; /* set by a handler that parks the call: what it has begun; given back to it
                           * when the same request comes again */
};

extern const struct route *const all_routes[]; /* tables by resource, each ends with a NULL path */

enum err request_reply(struct request *, int status, const struct record *, const void *);
/* {"items":[…],"next_cursor":…}; id_offset is where the id of an item is, for the cursor. */
enum err request_reply_list(struct request *, const struct record *, struct list, int limit,
                            size_t id_offset);

/* One item of a batch: its members, or its problem. */
struct batch_item {
        enum err result;
        struct fault fault;
        const struct record *record;
        const void *value;
        struct str run_id; /* what the row is about, where rows do not follow the request's; or absent */
};
/* 200 {"items":[{"ok":true,…}|{"ok":false,"error":{…}}]} of struct batch_item. */
enum err request_reply_batch(struct request *, struct list items);

/* After an operation that passed force_gate(), with its result: what an agent's session tries counts
 * although it is refused. */
enum err request_operated(struct request *, enum err) NODISCARD;

/*
 * What the query says: the route's `filter` is the table of it, and r->filter the struct, filled before
 * the handler runs.  A list's struct begins with `struct paging page`.
 */
struct paging {
        int64_t limit, before; /* before: where the page before it ended; 0 = the beginning */
};
#define PAGE_FIELDS(type)                                                                          \
        { "limit", FIELD_INT, FIELD_WIRE, offsetof(type, page.limit), NULL, 1, 500, .preset = 50 }, \
        { "cursor", FIELD_ID, FIELD_WIRE | FIELD_CURSOR, offsetof(type, page.before), "cur",       \
          .doc = "the next_cursor of an earlier page" }
struct page_filter { /* nothing else */
        struct paging page;
};
extern const struct record page_filter_record;
/* Part of a list that was read whole, in order, as a page: `before` is how many came before it. */
enum err request_reply_part(struct request *, const struct record *, struct list);
/* Fills r->filter by the route's table. */
enum err request_read_query(struct request *) NODISCARD;

/* In a list, a text beyond LISTED_MAX bytes is shown by its beginning: {"preview","truncated"}. */
enum { LISTED_MAX = 65536 };
struct str request_listed(struct request *, struct str json);
/* The same for a list of runs, made ready to be shown. */
void request_show_runs(struct request *, struct tx *, struct list runs);
/* A page of the runs that the filter lets pass; page and status are the query's. */
struct runs_filter {
        struct paging page;
        int status;
};
extern const struct record runs_filter_record;
enum err request_reply_runs(struct request *, struct tx *, struct run_filter *) NODISCARD;

/* Whether Content-Type names it, whatever its parameters are. */
bool request_media_is(const struct request *, const char *type);
/* A path parameter as an id; 404 with the resource's name when it is none. */
enum err request_id(struct request *, int param, const char *prefix, const char *resource,
                    int64_t *out) NODISCARD;
/* Headers that the API reads, each of the routes that have its flag. */
struct request_header {
        const char *name;
        unsigned flags; /* 0: all but the open ones */
        bool required;
        size_t offset; /* of a struct str in struct request */
        size_t max;    /* bytes; 0 = unbounded */
        const char *doc;
};
enum { REQUEST_HEADERS = 5 };
extern const struct request_header request_headers[REQUEST_HEADERS];
bool route_reads(const struct route *, const struct request_header *);

/* The fence of a lease-holder's call: header X-Claim-Token or the body's claim_token. */
struct fence request_fence(struct request *, struct str body_token);

/* ERR_VALIDATION when what a holder or sender says would carry a claim token out of its lease: a member of
 * that name, in any case. */
enum err request_no_token(struct request *, struct str json, const char *field) NODISCARD;

/* A page of events by the filter event_filter_record. */
extern const struct record event_filter_record;
enum err reply_events(struct request *, struct tx *, int64_t tree, int64_t task, int64_t run);

/* Bodies that several resources take. */
struct cancel_body {
        struct str reason, metadata;
};
struct retry_body {
        struct str metadata;
};
extern const struct record cancel_body_record, retry_body_record, empty_body_record;

/* A definition's version, parsed; give it back to api_options()->definitions. */
enum err request_definition(struct request *, struct tx *, int64_t id, int64_t version,
                            const struct definition **out) NODISCARD;
/* Binds a task to the newest version of a definition, by id or name: checks the input, fills in what
 * the definition says and the caller did not. */
enum err request_bind_definition(struct request *, struct tx *, struct str name,
                                 struct task_spec *) NODISCARD;
/* {"task","run"?,"action"?,"existing_run"?}, or of a row of a batch {"run"} */
struct started {
        struct task *task;
        struct run *run;
        struct str action;
        bool existing_run;
};
extern const struct record started_record, run_row_record;
const struct started *started(struct request *, struct task *, struct run *, const char *action,
                              bool existing_run);
enum err reply_started(struct request *, struct tx *, int status, struct task *, struct run *,
                       const char *action, bool existing_run);

/* streams.c */
struct log_filter {
        int64_t after;
        bool follow;
};
/* The data of a frame of a log. */
extern const struct record log_frame_record;
enum err stream_log(struct request *, struct tx *) NODISCARD;
void stream_begin(struct request *);
void stream_discard(struct stream *); /* it never began; NULL is nothing */
struct loop_streams;
void *streams_loop_start(struct http_loop *); /* what a loop keeps of its streams */
struct loop_streams *loop_state_streams(void *loop_data);
struct api_options *api_options(struct api *);
struct tally *api_streams(struct api *); /* open ones, by key */

/* dashboard.c: answers that are kept for a while */
struct dashboards *dashboards_new(void);
void dashboards_free(struct dashboards *);
struct dashboards *api_dashboards(struct api *);

extern const struct route definition_routes[], step_routes[];
extern const struct route task_routes[], force_routes[], run_routes[], workspace_routes[], key_routes[], approval_routes[], review_routes[], ops_routes[], stream_routes[],
        secret_routes[], scheduler_routes[], inspect_routes[],
        inbox_routes[], dashboard_routes[], webhook_routes[], audit_routes[], profile_routes[], input_routes[];

/* openapi.c */
void openapi_print(struct json_out *);

#endif
