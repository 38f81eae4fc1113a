#!/usr/bin/env python3
"""Writes sql/NNNN_name.sql files as one C table of migrations."""
import os
import re
import sys

out, files = sys.argv[1], sys.argv[2:]
rows = []
for path in sorted(files):
    number, name = re.match(r"(\d+)_(\w+)\.sql$", os.path.basename(path)).groups()
    lines = open(path).read().splitlines()
    compatible = int(next((re.match(r"-- min_compatible: (\d+)", l).group(1) for l in lines
                           if l.startswith("-- min_compatible:")), number))
    text = "\n".join('        "%s\\n"' % l.replace("\\", "\\\\").replace('"', '\\"') for l in lines)
    rows.append("        { %d, %d, \"%s\",\n%s },\n" % (int(number), compatible, name, text))
with open(out, "w") as f:
    f.write('#include "domain/migrations.h"\n\nconst struct migration migrations[] = {\n')
    f.writelines(rows)
    f.write("};\nconst size_t migrations_n = %d;\n" % len(rows))
