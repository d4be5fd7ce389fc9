import CleaveProgramSupport

/// The page of `ctl serve`: tables and charts that its script fills from `/activity.json`.
enum ActivityPage {
    static let text: String = Page.text(
        heading: "cleave-vhost",
        sections: [
            Markup.text("p", ["id": "state", "role": "status"], "waiting for a first sample"),
            Markup.element("ul", ["id": "problem", "class": "warnings"], ""),
            heading("Packets each second"),
            Markup.element(
                "p", ["class": "legend"],
                key("line-in", "in: what a guest sent") + key("line-out", "out: what it received")
                    + key("line-drops", "dropped")),
            charts("ports"),
            heading("Busy share of switch threads"),
            charts("threads"),
            heading("Now"),
            Markup.element("div", ["class": "wide", "tabindex": "0", "id": "rows"], ""),
            heading("Dropped, or placed whole, by reason"),
            Markup.element("ul", ["id": "reasons"], ""),
        ], script: script, style: style)

    private static func heading(_ text: String) -> String { Markup.text("h2", [:], text) }

    private static func charts(_ name: String) -> String {
        Markup.element("div", ["class": "panels", "id": name], "")
    }

    private static func key(_ name: String, _ text: String) -> String {
        let sample = SVG.document(
            width: 14, height: 12, title: text, SVG.line(0, 6, 14, 6, class: name))
        return Markup.element("span", [:], sample + Markup.escape(text))
    }

    private static let style = """
        main { max-width: 1360px; }
        .panel { width: 300px; }
        .panel p { font-size: 12px; color: var(--faint); margin: 2px 0 0; }
        .panel svg { background: var(--shade); }
        .line-in, .line-out, .line-drops { fill: none; stroke-width: 1.6; }
        .line-in { stroke: var(--d); } .line-out { stroke: var(--d-net); }
        .line-drops { stroke: var(--bad); }
        #state { color: var(--faint); }
        #rows td:first-child, #rows th:first-child { text-align: left; position: sticky; left: 0;
          background: var(--page); }
        #rows td { white-space: nowrap; }
        #rows td:first-child { white-space: normal; min-width: 90px; max-width: 220px;
          overflow-wrap: anywhere; }
        #rows .queue td:first-child { padding-left: 26px; }
        @media (max-width: 700px) { .panel { width: 100%; } main { padding: 16px 12px 40px; }
          #rows td:first-child { max-width: 110px; } }

        """

    /// Free of `<` and `&`: the page is well-formed. Names come from outside, and get into the page
    /// as text alone.
    private static let script = #"""

        (function () {
          "use strict";
          var SPAN = 300, WIDTH = 300, HEIGHT = 80, points = [], number = 0;
          function by(id) { return document.getElementById(id); }
          function make(name, text, kind) {
            var element = document.createElement(name);
            if (text !== undefined) { element.textContent = text; }
            if (kind) { element.className = kind; }
            return element;
          }
          function short(value) {
            var names = ["", "k", "M", "G", "T"], index = 0;
            while (value >= 999.5) { value /= 1000; index += 1; }
            var digits = value >= 99.95 ? 0 : value >= 9.995 ? 1 : index ? 2 : 1;
            if (index === 0) { if (Math.round(value) === value) { digits = 0; } }
            return value.toFixed(digits) + names[index];
          }
          function percent(share) { return (100 * Math.min(1, share)).toFixed(1); }
          function svg(name, values) {
            var element = document.createElementNS("http://www.w3.org/2000/svg", name);
            Object.keys(values).forEach(function (key) { element.setAttribute(key, values[key]); });
            return element;
          }
          // One line for each list of values, from the newest sample at the right edge on.
          function chart(title, most, words, lines) {
            var panel = make("div", undefined, "panel");
            panel.append(make("h4", title));
            var drawing = svg("svg", { viewBox: "0 0 " + WIDTH + " " + HEIGHT, role: "img",
              width: WIDTH, height: HEIGHT });
            drawing.setAttribute("aria-label", title + ": " + words);
            lines.forEach(function (line) {
              var start = SPAN - line.values.length;
              var path = line.values.map(function (value, index) {
                if (value === null) { return null; }
                var x = (start + index + 1) / SPAN * WIDTH;
                var y = HEIGHT - 2 - (most > 0 ? value / most : 0) * (HEIGHT - 6);
                return x.toFixed(1) + "," + y.toFixed(1);
              }).filter(function (place) { return place !== null; });
              drawing.append(svg("polyline", { points: path.join(" "), "class": line.kind }));
            });
            panel.append(drawing, make("p", words));
            return panel;
          }
          function last(values) { return values.length ? values[values.length - 1] || 0 : 0; }
          function top(values) {
            return values.reduce(function (a, b) { return Math.max(a, b); }, 0);
          }
          function portChart(name) {
            function values(key) {
              return points.map(function (point) {
                var port = point.ports.find(function (one) { return one.name === name; });
                return port ? port[key] : null;
              });
            }
            var lines = [{ kind: "line-in", values: values("packetsIn") },
              { kind: "line-out", values: values("packetsOut") },
              { kind: "line-drops", values: values("drops") }];
            var most = top(lines.map(function (line) { return top(line.values); }));
            var now = lines.map(function (line) { return short(last(line.values)); });
            return chart(name, most, "in " + now[0] + ", out " + now[1] + ", dropped " + now[2]
              + " packets/s; most " + short(most), lines);
          }
          function threadChart(thread, index) {
            var values = points.map(function (point) {
              return point.threads.length > index ? point.threads[index] : null;
            });
            var each = thread.cyclesPerPacket === undefined || thread.cyclesPerPacket === null
              ? "" : ", " + thread.cyclesPerPacket.toFixed(0) + " cycles/packet";
            var place = thread.cpu === undefined || thread.cpu === null
              ? "" : " on CPU " + thread.cpu;
            return chart("thread " + thread.number + place, 1, percent(thread.busyShare)
              + " % busy, " + percent(1 - thread.busyShare) + " % idle, "
              + short(thread.packetsPerSecond) + " packets/s" + each,
              [{ kind: "line-in", values: values }]);
          }
          var COLUMNS = ["port", "in pps", "in bit/s", "in fill", "out pps", "out bit/s",
            "out fill", "busy %", "cycles/packet", "split %", "whole/s", "drops in/s",
            "drops out/s", "slots free", "packets in", "packets out", "thread"];
          function given(value, text) {
            return value === undefined || value === null ? "-" : text(value);
          }
          function sum(rates) {
            return Object.values(rates).reduce(function (a, b) { return a + b; }, 0);
          }
          function cells(row) {
            var fill = function (value) { return value.toFixed(1); };
            var queue = row.headerQueue;
            return [row.queue === undefined ? row.port + (row.isOpen ? "" : " (closed)")
                : "queue " + row.queue,
              short(row.in.packetsPerSecond), short(row.in.bitsPerSecond),
              given(row.in.burstFill, fill), short(row.out.packetsPerSecond),
              short(row.out.bitsPerSecond), given(row.out.burstFill, fill),
              percent(row.busyShare),
              given(row.cyclesPerPacket, function (value) { return value.toFixed(0); }),
              given(row.splitShare, percent), short(sum(row.fallbacks)),
              short(row.in.droppedPerSecond), short(row.out.droppedPerSecond),
              queue ? queue.isBroken ? "broken" : queue.free + "/" + queue.slots : "-",
              String(row.in.packets), String(row.out.packets),
              row.thread === undefined ? "" : String(row.thread)];
          }
          function table(activity) {
            var table = make("table"), head = make("tr"), body = make("tbody");
            table.setAttribute("aria-label", "Ports and queues");
            COLUMNS.forEach(function (name) {
              var cell = make("th", name);
              cell.scope = "col";
              head.append(cell);
            });
            table.append(make("thead"), body);
            table.tHead.append(head);
            function add(row, kind) {
              var bad = row.in.droppedPerSecond + row.out.droppedPerSecond > 0;
              var line = make("tr", undefined, kind + (bad ? " bad" : ""));
              cells(row).forEach(function (text) { line.append(make("td", text)); });
              body.append(line);
            }
            activity.ports.forEach(function (port) {
              add(port, "port");
              var queues = activity.queues.filter(function (queue) {
                return queue.port === port.port;
              });
              if (queues.length > 1) { queues.forEach(function (one) { add(one, "queue"); }); }
            });
            return table;
          }
          function reasons(activity) {
            var lines = [];
            activity.ports.forEach(function (port) {
              [["dropped in", port.in.drops], ["dropped out", port.out.drops],
                ["placed whole", port.fallbacks]].forEach(function (part) {
                var names = Object.keys(part[1]).sort(function (a, b) {
                  return part[1][b] - part[1][a];
                });
                if (names.length === 0) { return; }
                lines.push(make("li", port.port + ": " + part[0] + ": "
                  + names.map(function (name) {
                    return name + " " + short(part[1][name]) + "/s";
                  }).join(", ")));
              });
            });
            return lines.length ? lines : [make("li", "none in this second")];
          }
          function show(news) {
            // A server that was started anew counts its samples from 1.
            if (number > news.number) { points = []; number = 0; return poll(); }
            points = points.concat(news.points).slice(-SPAN);
            number = news.number;
            by("problem").replaceChildren(...(news.problem ? [make("li", news.problem)] : []));
            if (!news.activity) { return; }
            var activity = news.activity;
            var total = function (key) {
              return activity.ports.reduce(function (a, port) { return a + port.in[key]; }, 0);
            };
            by("state").textContent = short(total("packetsPerSecond")) + " packets/s and "
              + short(total("bitsPerSecond")).replace(/([kMGT]?)$/, " $1") + "bit/s came in at "
              + activity.ports.length
              + " ports; " + points.length + " samples";
            by("ports").replaceChildren(...activity.ports.map(function (port) {
              return portChart(port.port);
            }));
            by("threads").replaceChildren(...activity.threads.map(threadChart));
            by("rows").replaceChildren(table(activity));
            by("reasons").replaceChildren(...reasons(activity));
            document.documentElement.dataset.samples = points.length;
            document.documentElement.dataset.wide =
              document.documentElement.scrollWidth > window.innerWidth ? "yes" : "no";
          }
          function poll() {
            return fetch("activity.json?after=" + number).then(function (answer) {
              return answer.json();
            }).then(show).catch(function (error) {
              by("problem").replaceChildren(make("li", "no answer from cleave-vhost ctl serve: "
                + error.message));
            });
          }
          function again() { poll().then(function () { setTimeout(again, 1000); }); }
          again();
        }());

        """#
}
