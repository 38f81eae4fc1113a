#!/usr/bin/env python3
"""Writes sql/NNNN_name.sql files as one C table of migrations; NNNN_name.postgres.sql beside one is its text for PostgreSQL."""
import os
import re
import sys

out, files = sys.argv[1], sys.argv[2:]


def quoted(text):
    return "\n".join('        "%s\\n"' % l.replace("\\", "\\\\").replace('"', '\\"') for l in text.splitlines())


rows = []
for path in sorted(f for f in files if not f.endswith(".postgres.sql")):
    number, name = re.match(r"(\d+)_(\w+)\.sql$", os.path.basename(path)).groups()
    lines = open(path).read().splitlines()
    compatible = int(next((re.match(r"-- min_compatible: (\d+)", l).group(1) for l in lines
                           if l.startswith("-- min_compatible:")), number))
    own = path.removesuffix(".sql") + ".postgres.sql"
    postgres = quoted(open(own).read()) if own in files else "        NULL"
    rows.append("        { %d, %d, \"%s\",\n%s,\n%s },\n" %
                (int(number), compatible, name, quoted("\n".join(lines)), postgres))
with open(out, "w") as f:
    f.write('#include "domain/migrations.h"\n\nconst struct migration migrations[] = {\n')
    f.writelines(rows)
    f.write("};\nconst size_t migrations_n = %d;\n" % len(rows))
