#include "actors/control/gateway/pages.h"

#include <span>

#include "protocol/checksum.h"

// The file's bytes, between the symbols crabcast_page_NAME and crabcast_page_NAME_end.
#define CRABCAST_EMBED(name, path)                           \
  asm(".section .rodata\n"                                   \
      ".global crabcast_page_" #name                         \
      "\n"                                                   \
      "crabcast_page_" #name                                 \
      ":\n"                                                  \
      ".incbin \"" path                                      \
      "\"\n"                                                 \
      ".global crabcast_page_" #name                         \
      "_end\n"                                               \
      "crabcast_page_" #name "_end:\n.byte 0\n.previous\n"); \
  extern "C" const char crabcast_page_##name[], crabcast_page_##name##_end[]

CRABCAST_EMBED(index, CRABCAST_DASHBOARD "/index.html");
CRABCAST_EMBED(style, CRABCAST_DASHBOARD "/app.css");
CRABCAST_EMBED(icon, CRABCAST_DASHBOARD "/icon.svg");
CRABCAST_EMBED(app, CRABCAST_DASHBOARD "/app.js");
CRABCAST_EMBED(api, CRABCAST_DASHBOARD "/api.js");
CRABCAST_EMBED(view, CRABCAST_DASHBOARD "/view.js");
CRABCAST_EMBED(format, CRABCAST_DASHBOARD "/format.js");
CRABCAST_EMBED(charts, CRABCAST_DASHBOARD "/charts.js");
CRABCAST_EMBED(timeline, CRABCAST_DASHBOARD "/timeline.js");
CRABCAST_EMBED(cluster, CRABCAST_DASHBOARD "/cluster.js");
CRABCAST_EMBED(jobs, CRABCAST_DASHBOARD "/jobs.js");
CRABCAST_EMBED(job, CRABCAST_DASHBOARD "/job.js");
CRABCAST_EMBED(job_parts, CRABCAST_DASHBOARD "/job_parts.js");
CRABCAST_EMBED(actors, CRABCAST_DASHBOARD "/actors.js");
CRABCAST_EMBED(chart_library, CRABCAST_CHART_JS);

namespace crabcast::gateway {
namespace {

Page page(const char* name, const char* type, const char* begin, const char* end) {
  const std::string_view content(begin, static_cast<std::size_t>(end - begin));
  return {name, type, content,
          "\"" + std::to_string(checksum64(std::as_bytes(std::span(content)))) + "\""};
}

}  // namespace

const std::vector<Page>& pages() {
  constexpr auto kScript = "text/javascript; charset=utf-8";
#define CRABCAST_SCRIPT(name) \
  page(#name ".js", kScript, crabcast_page_##name, crabcast_page_##name##_end)
  static const std::vector<Page> all = {
      page("index.html", "text/html; charset=utf-8", crabcast_page_index, crabcast_page_index_end),
      page("app.css", "text/css; charset=utf-8", crabcast_page_style, crabcast_page_style_end),
      page("icon.svg", "image/svg+xml", crabcast_page_icon, crabcast_page_icon_end),
      CRABCAST_SCRIPT(app),
      CRABCAST_SCRIPT(api),
      CRABCAST_SCRIPT(view),
      CRABCAST_SCRIPT(format),
      CRABCAST_SCRIPT(charts),
      CRABCAST_SCRIPT(timeline),
      CRABCAST_SCRIPT(cluster),
      CRABCAST_SCRIPT(jobs),
      CRABCAST_SCRIPT(job),
      CRABCAST_SCRIPT(job_parts),
      CRABCAST_SCRIPT(actors),
      page("chart.js", kScript, crabcast_page_chart_library, crabcast_page_chart_library_end),
  };
#undef CRABCAST_SCRIPT
  return all;
}

const Page* find_page(std::string_view name) {
  for (const auto& page : pages())
    if (page.name == name) return &page;
  return nullptr;
}

}  // namespace crabcast::gateway
