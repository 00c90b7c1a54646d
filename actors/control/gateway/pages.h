// The dashboard's files (dashboard/), which are part of the program: it works without internet and
// without files beside it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace crabcast::gateway {

struct Page {
  std::string name;  // index.html
  std::string type;  // text/html; charset=utf-8
  std::string_view content;
  std::string etag;
};

const std::vector<Page>& pages();
// Null when there is none of this name.
const Page* find_page(std::string_view name);

}  // namespace crabcast::gateway
