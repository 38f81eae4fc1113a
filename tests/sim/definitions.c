/* The definitions that simulated tasks run: every kind of step, wait and join. */
#include "domain/definition.h"
#include "sim.h"

/* Index 0 is a plain task for agents.  The second last names the last, which is archived on the way. */
static const char *const documents[DEFINITIONS] = {
        NULL,
        "{'name':'plain','retry':{'delay_ms':500,'backoff':2,'jitter':0.5},'steps':["
        "{'action':'noop','parameters':{'output':1}},{'action':'noop'},"
        "{'action':'noop','parameters':{'output':'${{ steps[0].output }}'}}]}",
        "{'name':'fan','steps':[{'action':'parallel','parameters':{'branches':["
        "{'steps':[{'action':'noop'}]},{'steps':[{'action':'noop'},{'action':'noop'}]},"
        "{'steps':[{'action':'noop'}]}]}},{'action':'noop'}]}",
        "{'name':'race','steps':[{'action':'parallel','parameters':{'join':'any','branches':["
        "{'steps':[{'action':'delay','parameters':{'seconds':2}},{'action':'noop'}]},"
        "{'steps':[{'action':'noop'}]},{'steps':[{'action':'noop'}]}]}}]}",
        "{'name':'each','steps':[{'action':'for_each','parameters':{'items':[1,2,3,4,5],"
        "'max_concurrency':2,'on_failure':'wait_all','steps':[{'action':'noop','parameters':"
        "{'output':'${{ item }}'}}]}}]}",
        "{'name':'sub','timeout_seconds':40,'steps':[{'action':'sub_task','parameters':"
        "{'referenced_task_id':'plain','on_failure':'continue'}},{'action':'checkpoint'},"
        "{'action':'noop'}]}",
        "{'name':'ask','steps':[{'action':'approval','parameters':{'message':'go on?',"
        "'expires_in_seconds':8},'on_error':'continue'},{'action':'conditional','parameters':"
        "{'condition':'true','then_step_index':2,'else_step_index':3}},{'action':'noop',"
        "'requires_approval':true},{'action':'noop'}]}",
        "{'name':'sleepy','retry':{'delay_ms':0},'timeout_seconds':12,'steps':["
        "{'action':'delay','parameters':{'seconds':1.5}},{'action':'noop','retry':"
        "{'max_attempts':3,'delay_ms':700}},{'action':'delay','parameters':{'seconds':3}}]}",
        "{'name':'impatient','steps':[{'action':'parallel','timeout_seconds':3,'on_error':'continue',"
        "'retry':{'max_attempts':2,'delay_ms':300},'parameters':{'branches':["
        "{'referenced_task_id':'plain'},{'steps':[{'action':'delay','parameters':{'seconds':5}}]}]}},"
        "{'action':'noop'}]}",
        "{'name':'deep','steps':[{'action':'noop','on_interrupt':'fail'},{'action':'parallel',"
        "'parameters':{'branches':[{'referenced_task_id':'fan'},{'referenced_task_id':'sub'},"
        "{'referenced_task_id':'plain'}],'on_failure':'fail_fast'}}]}",
        "{'name':'listen','steps':[{'action':'wait_input','on_error':'continue','parameters':"
        "{'expires_in_seconds':6}},{'action':'parallel','parameters':{'branches':["
        "{'steps':[{'action':'wait_input','on_error':'continue','timeout_seconds':9}]},"
        "{'steps':[{'action':'wait_input','on_error':'continue','timeout_seconds':9}]}]}},"
        "{'action':'noop'}]}",
        "{'name':'late','steps':[{'action':'noop'},{'action':'parallel','on_error':'continue',"
        "'parameters':{'branches':[{'steps':[{'action':'noop'}]},"
        "{'referenced_task_id':'doomed'}]}},{'action':'noop'}]}",
        "{'name':'doomed','steps':[{'action':'noop'}]}",
};

struct making {
        struct sim *sim;
        int index;
};

static enum err make(struct tx *tx, void *arg)
{
        const struct making *m = arg;
        struct scope *scope = tx_scope(tx);
        char *json = str_c(&scope->arena, str_from(documents[m->index]));
        struct problems problems;
        struct definition *d;
        struct definition_row row;
        struct definition_text text;
        enum err e;

        for (char *at = json; *at; at++)
                if (*at == '\'')
                        *at = '"';
        e = definition_parse(scope, str_from(json), FORMAT_JSON, STR_NONE, &d, &problems);
        if (e)
                return e;
        text = (struct definition_text){ .name = d->name, .document = value_dump(scope, d->document) };
        text.references = definition_references(scope, d, &text.n_references);
        e = definition_create(tx, &m->sim->clients[0], &text, &row);
        if (!e)
                m->sim->definition_ids[m->index] = row.id;
        return e;
}

void definitions_make(struct sim *s)
{
        for (int n = 1; n < DEFINITIONS; n++) {
                /* The last two the other way round: a definition must exist before it is named. */
                struct making m = { s, n < DEFINITIONS - 2 ? n : 2 * DEFINITIONS - 3 - n };

                if (store_run(s->store, &s->scope, make, &m))
                        violation(s, "definition %d: " STR_FMT, m.index,
                                  STR_ARG(s->scope.fault.detail));
        }
}
