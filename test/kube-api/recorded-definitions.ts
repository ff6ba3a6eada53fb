import type { Json, JsonObject } from '../../packages/kube-api/src/object.ts'
import { isExchange, readRecording } from './recording.ts'

/** Definitions that recordings need, as they were made in the recording `crd`. */
export function recordedDefinitions(names: readonly string[]): Json[] {
  return readRecording('crd').steps.filter(isExchange)
    .filter(({ method, requestBody }) => method === 'POST' && requestBody !== undefined)
    .map(({ requestBody }) => requestBody!)
    .filter((body, i, all) => names.includes(nameOf(body)) && all.findIndex(other => nameOf(other) === nameOf(body)) === i)
}

const nameOf = (body: Json): string => ((body as JsonObject)['metadata'] as JsonObject | undefined)?.['name'] as string
