/** Members of the types that a CustomResourceDefinition is made of, as kinds/kind-types.ts has those of built-in kinds. */
export const definitionTypes: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  CustomResourceDefinition: {
    apiVersion: 'string?', kind: 'string?', metadata: 'ObjectMeta', spec: 'CustomResourceDefinitionSpec',
    status: 'CustomResourceDefinitionStatus'
  },
  CustomResourceDefinitionSpec: {
    group: 'string', names: 'CustomResourceDefinitionNames', scope: 'string', versions: '[]CustomResourceDefinitionVersion',
    conversion: 'CustomResourceConversion', preserveUnknownFields: 'boolean?'
  },
  CustomResourceDefinitionNames: {
    plural: 'string', singular: 'string?', shortNames: '[]string', kind: 'string', listKind: 'string?', categories: '[]string'
  },
  CustomResourceDefinitionVersion: {
    name: 'string', served: 'boolean', storage: 'boolean', deprecated: 'boolean?', deprecationWarning: 'string',
    schema: 'CustomResourceValidation', subresources: 'CustomResourceSubresources',
    additionalPrinterColumns: '[]CustomResourceColumnDefinition', selectableFields: '[]SelectableField'
  },
  CustomResourceValidation: { openAPIV3Schema: 'JSONSchemaProps' },
  CustomResourceSubresources: { status: 'CustomResourceSubresourceStatus', scale: 'CustomResourceSubresourceScale' },
  CustomResourceSubresourceStatus: {},
  CustomResourceSubresourceScale: { specReplicasPath: 'string', statusReplicasPath: 'string', labelSelectorPath: 'string' },
  CustomResourceColumnDefinition: {
    name: 'string', type: 'string', format: 'string?', description: 'string?', priority: 'int32?', jsonPath: 'string'
  },
  SelectableField: { jsonPath: 'string' },
  CustomResourceConversion: { strategy: 'string', webhook: 'any' },
  CustomResourceDefinitionStatus: {
    conditions: '[]CustomResourceDefinitionCondition', acceptedNames: 'CustomResourceDefinitionNames', storedVersions: '[]string'
  },
  CustomResourceDefinitionCondition: {
    type: 'string', status: 'string', lastTransitionTime: 'date-time', reason: 'string?', message: 'string?'
  },
  JSONSchemaProps: {
    'id': 'string?', '$schema': 'string?', '$ref': 'string', 'description': 'string?', 'type': 'string?', 'format': 'string?',
    'title': 'string?', 'default': 'any', 'maximum': 'number', 'exclusiveMaximum': 'boolean?', 'minimum': 'number',
    'exclusiveMinimum': 'boolean?', 'maxLength': 'int64', 'minLength': 'int64', 'pattern': 'string?', 'maxItems': 'int64',
    'minItems': 'int64', 'uniqueItems': 'boolean?', 'multipleOf': 'number', 'enum': '[]any', 'maxProperties': 'int64',
    'minProperties': 'int64', 'required': '[]string', 'items': 'schema-or-list', 'allOf': '[]JSONSchemaProps',
    'oneOf': '[]JSONSchemaProps', 'anyOf': '[]JSONSchemaProps', 'not': 'JSONSchemaProps', 'properties': '{}JSONSchemaProps',
    'additionalProperties': 'schema-or-boolean', 'patternProperties': '{}JSONSchemaProps', 'dependencies': 'any',
    'additionalItems': 'schema-or-boolean', 'definitions': '{}JSONSchemaProps', 'externalDocs': 'any', 'example': 'any',
    'nullable': 'boolean?', 'x-kubernetes-preserve-unknown-fields': 'boolean', 'x-kubernetes-embedded-resource': 'boolean?',
    'x-kubernetes-int-or-string': 'boolean?', 'x-kubernetes-list-map-keys': '[]string', 'x-kubernetes-list-type': 'string',
    'x-kubernetes-map-type': 'string', 'x-kubernetes-validations': '[]any'
  }
}
