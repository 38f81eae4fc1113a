#include "flow/action.h"

#define ACTION(name, kind, landed, ...) \
        static const struct param name##_params[] = { __VA_ARGS__, { NULL, 0, 0, 0, 0 } };
#include "flow/action.def"
#undef ACTION

static const struct action actions[] = {
#define ACTION(name, kind, landed, ...) \
        { #name, ACTION_ID_##name, ACTION_##kind, landed, name##_params },
#include "flow/action.def"
#undef ACTION
};

static const char *const texts[] = {
#define ACTION(name, kind, landed, ...) #name,
#include "flow/action.def"
#undef ACTION
        NULL,
};
const struct names action_names = { texts, NULL };

const struct action *action_find(struct str name)
{
        int id = names_find(&action_names, name);

        return id < 0 ? NULL : &actions[id];
}
