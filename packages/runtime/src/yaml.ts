import { describeError } from './errors.ts'

/** A document as it was read; `value` is undefined where there are problems. */
export interface YamlDocument {
  readonly value: unknown
  /** Each with its place, `:<line>:<column>` or empty, and what is wrong there. */
  readonly problems: readonly { readonly place: string, readonly what: string }[]
}

/** Reads one YAML document, or JSON, which is YAML. Never rejects for what the text is; aliases are bounded. */
export async function readYaml(source: string): Promise<YamlDocument> {
  const { parseDocument } = await import('yaml')
  const document = parseDocument(source, { prettyErrors: true })
  if (document.errors.length > 0) {
    return {
      value: undefined,
      problems: document.errors.map(error => ({
        place: error.linePos === undefined ? '' : `:${error.linePos[0].line}:${error.linePos[0].col}`,
        what: error.code === 'MULTIPLE_DOCS' ? 'expected one document, and here a second one begins'
          : `not YAML: ${error.message.split('\n')[0]!.replace(/ at line \d+, column \d+:?$/, '')}`
      }))
    }
  }
  try {
    return { value: document.toJS({ maxAliasCount: 100 }) as unknown, problems: [] }
  } catch (error) {
    return { value: undefined, problems: [{ place: '', what: describeError(error) }] }
  }
}
