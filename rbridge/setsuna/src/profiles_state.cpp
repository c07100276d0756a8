#include "profiles_state.hpp"

#include <map>

#include "guard.hpp"

namespace setsuna::host {
namespace {

struct Entry {
  std::uint32_t id = kNoProfile;
  bool sync = false;
  bool operator==(const Entry&) const = default;
};

using Entries = std::map<std::string, Entry, std::less<>>;

Entries& entries() {
  static Entries all;
  return all;
}

char default_name[256] = "default";
std::uint32_t ephemeral_id = kNoProfile;

SEXP set_default(SEXP name) {
  SEXP before = PROTECT(Rf_mkString(default_name));
  std::snprintf(default_name, sizeof(default_name), "%s", CHAR(STRING_ELT(name, 0)));
  UNPROTECT(1);
  return before;
}

SEXP get_default() { return Rf_mkString(default_name); }

}  // namespace

const char* profile_name(SEXP compute) {
  if (compute == R_NilValue) {
    return default_name;
  }
  if (TYPEOF(compute) != STRSXP || XLENGTH(compute) != 1 || STRING_ELT(compute, 0) == NA_STRING ||
      CHAR(STRING_ELT(compute, 0))[0] == '\0') {
    Rf_error("'.compute' must be the name of a compute profile (one string) or NULL, not %s",
             Rf_isFunction(compute) ? "a function" : Rf_type2char(TYPEOF(compute)));
  }
  return CHAR(STRING_ELT(compute, 0));
}

std::uint32_t current_profile(const char* name) {
  const auto found = entries().find(std::string_view(name));
  return found == entries().end() ? kNoProfile : found->second.id;
}

void set_current_profile(const char* name, std::uint32_t id) {
  guarded([&] { entries()[name].id = id; });
}

bool known_profile(const char* name) {
  return std::string_view(name) == "default" || entries().find(std::string_view(name)) != entries().end();
}

bool is_sync_profile(const char* name) {
  const auto found = entries().find(std::string_view(name));
  return found != entries().end() && found->second.sync;
}

void set_sync_profile(const char* name, bool sync) {
  guarded([&] { entries()[name].sync = sync; });
}

std::uint32_t* ephemeral_slot() { return &ephemeral_id; }

struct ProfileNames {
  Entries entries;
  std::string default_name;
  std::uint32_t ephemeral_id;
};

ProfileNames* snapshot_profiles() { return new ProfileNames{entries(), default_name, ephemeral_id}; }

void restore_profiles(const ProfileNames* kept) {
  entries() = kept->entries;
  std::snprintf(default_name, sizeof(default_name), "%s", kept->default_name.c_str());
  ephemeral_id = kept->ephemeral_id;
}

bool names_changed(const ProfileNames* kept) {
  return ephemeral_id != kept->ephemeral_id || kept->default_name != default_name || entries() != kept->entries;
}

void free_profiles(ProfileNames* kept) { delete kept; }

// R decides whether the configuration is still right and makes the pool with it: .open_ephemeral() in daemons.R.
std::uint32_t ephemeral_profile() {
  SEXP name = PROTECT(Rf_mkString("setsuna"));
  SEXP ns = PROTECT(R_FindNamespace(name));
  SEXP call = PROTECT(Rf_lang1(Rf_install(".open_ephemeral")));
  Rf_eval(call, ns);
  UNPROTECT(3);
  return ephemeral_id;
}

}  // namespace setsuna::host

extern const R_CallMethodDef kProfileNameEntries[] = {
    SETSUNA_ENTRY(set_default_profile, setsuna::host::set_default, 1),
    SETSUNA_ENTRY(default_profile, setsuna::host::get_default, 0),
    {nullptr, nullptr, 0},
};
