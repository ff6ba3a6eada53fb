import type { JsonObject } from '../object.ts'
import type { StatusError } from '../status-error.ts'

/** The Status document of a refusal. Reason and details are left out where there are none, as the real server does. */
export function failureStatus(error: StatusError): JsonObject {
  const { code, reason, message, details, continueToken } = error
  const { retryAfterSeconds } = details ?? {}
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: { ...continueToken !== undefined && { continue: continueToken } },
    status: 'Failure',
    message,
    ...reason !== '' && { reason },
    ...details !== undefined && {
      details: {
        ...details.name !== undefined && details.name !== '' && { name: details.name },
        ...details.group !== undefined && details.group !== '' && { group: details.group },
        ...details.kind !== undefined && { kind: details.kind },
        ...details.uid !== undefined && { uid: details.uid },
        ...details.causes !== undefined && {
          causes: details.causes.map(({ reason: why, message: text, field }) =>
            ({ reason: why, message: text, ...field !== '' && { field } }))
        },
        ...retryAfterSeconds !== undefined && { retryAfterSeconds }
      }
    },
    code
  }
}

/** What is named by its resource in messages and details. */
export interface QualifiedResource { readonly group: string, readonly plural: string }

/** The answer to a deletion that removed the object. */
export function deletedStatus({ group, plural }: QualifiedResource, name: string, uid: string): JsonObject {
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Success',
    details: { name, ...group !== '' && { group }, kind: plural, uid }
  }
}
