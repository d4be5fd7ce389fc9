# Judges what the guest wrote down; `rqs` is how many RQs there must be.
function complain(what) { print "  " what; bad++ }

$1 == "nodes" && $2 != "0-1" { complain("the guest has nodes " $2 ", not 0-1") }
$1 == "cpus" { split($3, ends, "-"); for (cpu = ends[1]; cpu <= ends[2]; cpu++) nodeOf[cpu] = $2 }

# thread NAME ALLOWED ON
$1 == "thread" {
    samples++
    if ($3 !~ /^[0-9]+$/) complain($2 " may run on CPUs " $3)
    else if ($4 != $3) complain($2 " is on CPU " $4 ", its CPU is " $3)
    cpuOf[$2] = $3
}

# mapping NODE N0=PAGES N1=PAGES
$1 == "mapping" {
    mappings++
    for (field = 3; field <= NF; field++) {
        split(substr($field, 2), part, "=")
        if (part[1] != $2) complain(part[2] " pages bound to node " $2 " lie on node " part[1])
        else if (part[2] > most[$2]) most[$2] = part[2]
    }
}

# The engine's own account, where its report has one: places and memory of the queue plan.
$1 == "json" { text = text substr($0, 6) }
$1 == "exit" { code = $2 }
$1 == "end" { ended = 1 }

function judgeReport(text,    count, parts, index_, cpu, node) {
    gsub(/[ \t]/, "", text)
    count = split(text, parts, /\{"rq":/)
    for (index_ = 2; index_ <= count; index_++) {
        if (!match(parts[index_], /^[0-9]+,"cpu":[0-9]+,"node":[0-9]+/)) continue
        split(substr(parts[index_], 1, RLENGTH), words, /[^0-9]+/)
        cpu = words[2]; node = words[3]; planned++
        if (nodeOf[cpu] != node) complain("RQ " words[1] ": CPU " cpu " is not of node " node)
        if (cpuOf["cleave-rq" words[1]] != cpu)
            complain("RQ " words[1] ": planned for CPU " cpu ", runs on " cpuOf["cleave-rq" words[1]])
    }
    if (planned && planned != rqs) complain(planned " RQs are planned, not " rqs)
    count = split(text, parts, /"(misplaced|unknown)":/)
    for (index_ = 2; index_ <= count; index_++)
        if (parts[index_] !~ /^0[^0-9]/)
            complain("the engine reports pages that are misplaced, or that nobody knows of")
    if (planned && count < 2) complain("the engine does not report where its memory lies")
}

END {
    if (!ended) complain("the guest wrote down nothing to the end")
    if (code != 0) complain("cleave-bench ended with code " code)
    for (rq = 0; rq < rqs; rq++) {
        name = "cleave-rq" rq
        if (!(name in cpuOf)) { complain("no thread " name " was seen"); continue }
        if (cpuOf[name] in taken) complain(name " shares CPU " cpuOf[name])
        taken[cpuOf[name]] = 1
        used[nodeOf[cpuOf[name]]] = 1
    }
    for (node = 0; node < 2; node++) {
        if (!(node in used)) complain("no RQ runs on node " node)
        if (most[node] == 0) complain("no memory is bound to node " node)
    }
    judgeReport(text)
    if (bad) exit 1
    print "numa-test: " rqs " RQs on their CPUs in " samples " samples, " mappings \
        " sightings of bound mappings with every page on its node" \
        (planned ? ", and the engine's report agrees" : "")
}
