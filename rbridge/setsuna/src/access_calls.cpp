// What R/access.R reaches: certificates.

#include <string>
#include <vector>

#include "glue.hpp"
#include "guard.hpp"
#include "net/tls_context.hpp"

namespace setsuna::host {
namespace {

// c(certificate, key) in PEM, for a host with these names.
SEXP make_certificate(SEXP names, SEXP days) {
  static net::MadeCertificate made;  // static: passed by R's jumps
  static std::string error;
  const bool done = guarded([&] {
    std::vector<std::string> all;
    for (R_xlen_t i = 0; i < Rf_xlength(names); ++i) {
      all.emplace_back(CHAR(STRING_ELT(names, i)));
    }
    if (!net::make_certificate(all, static_cast<unsigned>(Rf_asInteger(days)), made, &error)) {
      throw std::runtime_error("a certificate cannot be made: " + error);
    }
  });
  if (!done) {
    Rf_error("%s", guard_message);
  }
  SEXP out = PROTECT(Rf_allocVector(STRSXP, 2));
  SET_STRING_ELT(out, 0, Rf_mkChar(made.certificate.c_str()));
  SET_STRING_ELT(out, 1, Rf_mkChar(made.key.c_str()));
  made = net::MadeCertificate();
  UNPROTECT(1);
  return out;
}

}  // namespace
}  // namespace setsuna::host

extern const R_CallMethodDef kAccessEntries[] = {
    SETSUNA_ENTRY(make_certificate, setsuna::host::make_certificate, 2),
    {nullptr, nullptr, 0},
};
