/** The public contract: which refusals there are, for docs/errors.md and for whoever answers a device. */
export const twinErrorCodes = {
  TWIN_PROPERTY: {
    cause: 'A property that the DeviceModel does not have, or a name that is empty, longer than 253 characters or has control characters.',
    remedy: 'Add the property to the DeviceModel, or use one that it has.', retryable: false
  },
  TWIN_READ_ONLY: {
    cause: 'A desired value for a property that the model calls ReadOnly.',
    remedy: 'Make the property ReadWrite in the DeviceModel, or leave it to the device.', retryable: false
  },
  TWIN_TYPE: {
    cause: 'A value that is not of the type that the model gives the property.',
    remedy: 'Send a value of the type that the message names.', retryable: false
  },
  TWIN_RANGE: {
    cause: 'A number below the model\'s minimum or above its maximum.',
    remedy: 'Send a value within the bounds that the message names.', retryable: false
  },
  TWIN_VALUE: {
    cause: 'A value that is too long, nested too deep, no JSON, or has a member __proto__.',
    remedy: 'Keep within the bounds that the message names; larger things belong into the Log.', retryable: false
  },
  TWIN_FULL: {
    cause: 'The twin would have more properties, or more bytes, than one may have.',
    remedy: 'Delete properties that are not used, or make two devices of it.', retryable: false
  },
  TWIN_NOT_OPTIONAL: {
    cause: 'A deletion of a property that the DeviceModel or the Device lists.',
    remedy: 'Take it out of the Device and the DeviceModel.', retryable: false
  },
  TWIN_STATE: {
    cause: 'A device state other than online, offline, ok, unknown and unhealthy.',
    remedy: 'Send one of these.', retryable: false
  },
  TWIN_CONFLICT: {
    cause: 'The writer named a version or revision that it saw, and the twin has another one by now.',
    remedy: 'Read the twin, decide anew, and send it with what was read.', retryable: false
  }
} as const

export type TwinErrorCode = keyof typeof twinErrorCodes
