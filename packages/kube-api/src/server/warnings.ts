const warningsMax = 100
const textMax = 256

/** Warning headers (RFC 7234 §5.5) for kubectl and client libraries to print. Bounded in number and length. */
export function warningHeaders(texts: readonly string[]): { readonly warning?: string[] } {
  if (texts.length === 0) return {}
  return {
    warning: texts.slice(0, warningsMax).map(text => {
      const shown = text.length > textMax ? `${text.slice(0, textMax)}…` : text
      return `299 - "${shown.replace(/[^\x20-\x7e]/g, '?').replace(/["\\]/g, '\\$&')}"`
    })
  }
}
