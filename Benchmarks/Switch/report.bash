# shellcheck shell=bash
# What the benchmarks of this folder share: medians, and the file of results.

# The median, the smallest and the largest of the arguments.
summary() {
    printf '%s\n' "$@" | sort -n | awk '{ all[NR] = $1 }
        END {
            middle = NR % 2 ? all[(NR + 1) / 2] : (all[NR / 2] + all[NR / 2 + 1]) / 2
            printf "%.0f %.0f %.0f\n", middle, all[1], all[NR]
        }'
}

processor() { sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1; }
dpdk_version() {
    dpkg-query -W -f '${Version}' dpdk-dev 2>/dev/null || pkg-config --modversion libdpdk
}

# write_report FILE COMMAND PAIRS SECONDS RUN...: the schema cleave-switch/1; each run is an object.
write_report() {
    local file=$1 command=$2 pairs=$3 seconds=$4 index end
    shift 4
    local runs=("$@")
    text() { printf '"%s"' "$(sed 's/\\/\\\\/g; s/"/\\"/g' <<<"$1")"; }
    {
        echo '{'
        echo '  "schema": "cleave-switch/1",'
        echo "  \"command\": $(text "$command"),"
        echo "  \"processor\": $(text "$(processor)"),"
        echo "  \"kernel\": $(text "$(uname -r)"),"
        echo "  \"dpdk\": $(text "$(dpdk_version)"),"
        echo "  \"hugePages\": false, \"pairs\": $pairs, \"seconds\": $seconds,"
        echo '  "runs": ['
        for index in "${!runs[@]}"; do
            if [ "$index" -lt $((${#runs[@]} - 1)) ]; then end=,; else end=; fi
            echo "${runs[index]}$end"
        done
        echo '  ]'
        echo '}'
    } >"$file"
}
